"""Losses and gradients as training asks for them: batches, blends, dropout, memory, and what is refused."""

from __future__ import annotations

import contextlib
import gc
import itertools
import threading
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest

from studio.contracts import (
    BASE_ALONE,
    BlendChannel,
    BlendState,
    Dropout,
    Example,
    Gains,
    Gradients,
    LearningEngine,
)
from studio.engine.backend import NumpyBackend, choose_backend
from studio.engine.blas_threads import one_blas_thread
from studio.engine.gradients import batch, learner
from studio.engine.gradients.batch_part import BatchPart
from studio.engine.gradients.traced import Traced
from studio.engine.local import LocalEngine
from studio.engine.model import EMBEDDING
from studio.errors import CancelledError, EngineError, MismatchError

Make = Callable[..., Any]
MODULES = [
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_v.weight",
    "blk.1.ffn_down.weight",
    "output.weight",
]
BLEND = BlendState((BlendChannel("a", 1, 0.5), BlendChannel("b", 1, -0.25)))


@pytest.fixture
def base(tiny_base: Make) -> Any:
    return tiny_base(biased=True)


@pytest.fixture
def engine(base: Any, tiny_adapter: Make) -> LocalEngine:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach({"a": tiny_adapter(base, MODULES), "b": tiny_adapter(base, MODULES[1:4], rank=2, seed=2)})
    return engine


@pytest.fixture
def examples(random_examples: Make) -> list[Example]:
    return list(random_examples(40, (9, 60, 12, 5, 33)))


def parts_of(gradients: Gradients) -> list[Any]:
    scales = [np.array(list(by_module.values())) for by_module in gradients.scales.values()]
    return [*scales, *(part for pair in gradients.factors.values() for part in (pair.a, pair.b))]


def assert_close(found: Gradients, wanted: Gradients, tolerance: float = 1e-5) -> None:
    for one, other in zip(parts_of(found), parts_of(wanted), strict=True):
        assert np.linalg.norm(one - other) <= tolerance * np.linalg.norm(other)


def test_the_local_engine_learns(engine: LocalEngine) -> None:
    assert isinstance(engine, LearningEngine)


def test_losses_are_what_evaluations_score(engine: LocalEngine, examples: list[Example]) -> None:
    """Each blend over each text, whatever runs side by side; what weighs nothing does not count."""
    states = [BLEND, BASE_ALONE, BlendState((BlendChannel("b", 1, 0.7, Gains.of({MODULES[1]: 0.0})),))]
    for state, loss in zip(states, engine.losses(examples, states), strict=True):
        wanted = 0.0
        for example in examples:
            scores = engine.evaluate(example.tokens, state, positions="scores").scores
            assert scores is not None
            wanted -= float(scores @ np.array(example.weights[1:], np.float32))
        assert loss.total == pytest.approx(wanted, rel=1e-5)
        assert loss.weight == sum(example.weight for example in examples)
        assert loss.mean == loss.total / loss.weight


def test_gradients_of_a_batch_are_the_sums_of_its_texts(
    engine: LocalEngine, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    together = engine.gradients(examples, BLEND, train="a")
    monkeypatch.setattr(learner, "PASS_COLUMNS", 1)
    assert_close(engine.gradients(examples, BLEND, train="a"), together)
    alone = [engine.gradients([example], BLEND, train="a") for example in examples]
    for sum_of, whole in zip(zip(*map(parts_of, alone), strict=True), parts_of(together), strict=True):
        np.testing.assert_allclose(sum(sum_of), whole, rtol=1e-3, atol=1e-4 * np.abs(whole).max())
    assert sum(one.loss.total for one in alone) == pytest.approx(together.loss.total, rel=1e-5)


def test_weights_of_0_are_read_and_not_learnt(engine: LocalEngine) -> None:
    tokens = [3, 17, 0, 39, 5, 21]
    prompted = Example.of(tokens, first=4)
    assert list(prompted.weights) == [0, 0, 0, 0, 1, 1]
    found = engine.gradients([prompted], BLEND, train="a")
    of_all, of_beginning = (
        engine.gradients([Example.of(part)], BLEND, train="a") for part in (tokens, tokens[:4])
    )
    assert found.loss.total == pytest.approx(of_all.loss.total - of_beginning.loss.total, rel=1e-4)
    for one, whole, beginning in zip(parts_of(found), parts_of(of_all), parts_of(of_beginning), strict=True):
        np.testing.assert_allclose(one, whole - beginning, atol=1e-4 * np.abs(whole).max())


def test_only_what_is_asked_for_has_gradients(engine: LocalEngine, examples: list[Example]) -> None:
    found = engine.gradients(examples, BLEND)
    assert found.factors == {}
    assert set(found.scales) == {"a", "b"} and set(found.scales["b"]) == set(MODULES[1:4])
    trained = engine.gradients(examples, BLEND, train="b")
    assert set(trained.factors) == set(MODULES[1:4])
    for key, by_module in found.scales.items():
        assert trained.scales[key] == pytest.approx(by_module, rel=1e-4)
    assert trained.factors[MODULES[1]].a.shape == (2, 24)
    assert trained.factors[MODULES[1]].b.shape == (24, 2)


def test_a_channel_at_scale_0_has_a_gradient(engine: LocalEngine, examples: list[Example]) -> None:
    """As it would have a little beside 0: that is where a search begins, and an adapter whose B is 0."""
    silent = BlendState((BlendChannel("a", 1, 0.0), BlendChannel("b", 1, 0.5)))
    near = BlendState((BlendChannel("a", 1, 1e-4), BlendChannel("b", 1, 0.5)))
    found, beside = (engine.gradients(examples, state, train="a") for state in (silent, near))
    for module, value in found.scales["a"].items():
        assert value == pytest.approx(beside.scales["a"][module], rel=1e-2, abs=1e-3)
    assert any(found.scales["a"].values())
    assert not any(pair.a.any() or pair.b.any() for pair in found.factors.values())


def test_an_adapter_that_the_base_does_not_hear_has_none(
    engine: LocalEngine, base: Any, tiny_adapter: Make, memory_base: Make, examples: list[Example]
) -> None:
    elsewhere = memory_base(
        {}, dict.fromkeys((EMBEDDING, "blk.9.attn_q.weight"), np.zeros((4, 4), np.float32))
    )
    engine.attach({"a": tiny_adapter(elsewhere, ["blk.9.attn_q.weight"])})
    state = BlendState((BlendChannel("a", 1, 1.0),))
    found = engine.gradients(examples, state, train="a")
    assert found.scales == {"a": {}} and found.factors == {}
    assert found.loss.total == pytest.approx(engine.losses(examples, [BASE_ALONE])[0].total, rel=1e-5)
    assert engine.gradients(examples, BASE_ALONE).scales == {}


def test_dropout_is_the_same_for_the_same_seed_and_right_on_average(
    engine: LocalEngine, examples: list[Example]
) -> None:
    state = BlendState((BlendChannel("a", 1, 0.05), BlendChannel("b", 1, -0.25)))
    one, again, other = (
        engine.gradients(examples, state, train="a", dropout=Dropout(0.3, seed)) for seed in (1, 1, 2)
    )
    for its, same, different in zip(parts_of(one), parts_of(again), parts_of(other), strict=True):
        np.testing.assert_array_equal(its, same)
        assert not np.array_equal(its, different)
    plain = engine.gradients(examples, state, train="a")
    mean = [
        sum(parts) / 40
        for parts in zip(
            *(
                parts_of(engine.gradients(examples, state, train="a", dropout=Dropout(0.3, seed)))
                for seed in range(40)
            ),
            strict=True,
        )
    ]
    for found, wanted in zip(mean, parts_of(plain), strict=True):
        assert np.linalg.norm(found - wanted) < 0.25 * np.linalg.norm(wanted)


def test_dropout_has_the_gradients_of_differences(
    base: Any, tiny_adapter: Make, in_float64: Make, central_difference: Make, examples: list[Example]
) -> None:
    precise = in_float64(base, {"a": tiny_adapter(base, MODULES)})
    state = BlendState((BlendChannel("a", 1, 0.5),))

    def gradients() -> Gradients:
        found: Gradients = precise.learner.gradients(
            examples, state, "a", Dropout(0.4, 7), cancelled=lambda: False
        )
        return found

    found = gradients()
    for module, pair in precise.factors("a").items():
        for which in (0, 1):
            towards = np.random.default_rng(which).standard_normal(pair[which].shape)

            def moved(step: float, factor: Any = pair[which], towards: Any = towards) -> float:
                factor[:] += step * towards
                loss = gradients().loss.total
                factor[:] -= step * towards
                return loss

            its = (found.factors[module].a, found.factors[module].b)[which]
            wanted = central_difference(moved, 1e-4)
            assert abs((its * towards).sum() - wanted) < 1e-6 * np.linalg.norm(its)


def test_work_stops_wherever_it_is_cancelled(engine: LocalEngine, examples: list[Example]) -> None:
    """At every poll on the way there and back; what comes after is as if nothing had been."""
    polls = 0

    def count() -> bool:
        nonlocal polls
        polls += 1
        return False

    wanted = engine.gradients(examples[:1], BLEND, train="a", cancelled=count)
    assert polls == 3 + 1 + 9  # layers and head there, every product back
    for last in range(polls):
        answers = iter([False] * last + [True])
        with pytest.raises(CancelledError):
            engine.gradients(examples[:1], BLEND, train="a", cancelled=lambda answers=answers: next(answers))  # type: ignore[misc]
    assert_close(engine.gradients(examples[:1], BLEND, train="a"), wanted, 0)
    with pytest.raises(CancelledError):
        engine.losses(examples, [BLEND], cancelled=lambda: True)


@pytest.fixture
def three_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Share even short sequences out."""
    monkeypatch.setattr(batch, "LEAST_POSITIONS", 2)
    monkeypatch.setattr(NumpyBackend, "cores", 3)


@pytest.mark.usefixtures("three_threads")
def test_dropout_on_threads_is_the_same_for_the_same_seed(
    engine: LocalEngine, examples: list[Example]
) -> None:
    one, again = (engine.gradients(examples, BLEND, train="a", dropout=Dropout(0.3, seed)) for seed in (1, 1))
    assert_close(one, again, 0)


@pytest.mark.usefixtures("three_threads")
def test_one_thread_serves_where_others_compute_with_the_same_result(
    engine: LocalEngine, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = engine.gradients(examples, BLEND, train="a")
    used: set[str] = set()
    real = BatchPart.forward

    def forward(part: BatchPart) -> float:
        used.add(threading.current_thread().name)
        return real(part)

    monkeypatch.setattr(BatchPart, "forward", forward)
    with one_blas_thread():
        assert_close(engine.gradients(examples, BLEND, train="a"), wanted, 0)
    assert used == {threading.current_thread().name}
    engine.gradients(examples, BLEND, train="a")
    assert len(used) > 1


@pytest.mark.usefixtures("three_threads")
def test_threads_stop_wherever_one_is_cancelled(engine: LocalEngine, examples: list[Example]) -> None:
    polls = itertools.count()
    wanted = engine.gradients(examples[:1], BLEND, train="a", cancelled=lambda: next(polls) < 0)
    for last in range(next(polls)):
        answers = iter([False] * last)
        with pytest.raises(CancelledError):
            engine.gradients(examples[:1], BLEND, train="a", cancelled=partial(next, answers, True))
    assert_close(engine.gradients(examples[:1], BLEND, train="a"), wanted, 0)


@pytest.mark.usefixtures("three_threads")
@pytest.mark.parametrize("way", ["forward", "backward"])
@pytest.mark.parametrize("start", [0, 3, 5])
def test_what_fails_on_a_thread_is_told_and_nobody_waits_for_it(
    engine: LocalEngine, examples: list[Example], monkeypatch: pytest.MonkeyPatch, way: str, start: int
) -> None:
    real = getattr(BatchPart, way)

    def failing(part: BatchPart) -> Any:
        if part._cache.length == start:
            raise MemoryError
        return real(part)

    monkeypatch.setattr(BatchPart, way, failing)
    with pytest.raises(EngineError, match="the memory ran out"):
        engine.gradients(examples[:1], BLEND, train="a")


def test_an_adapter_without_factors_is_heard_in_losses_and_refused_in_gradients(
    engine: LocalEngine, base: Any, tiny_adapter: Make, opaque_adapter: Make, examples: list[Example]
) -> None:
    module = "blk.0.ffn_down.weight"
    stranger = opaque_adapter("stranger", {module: np.full(base.arrays[module].shape, 0.1, np.float32)})
    engine.attach({"a": tiny_adapter(base, MODULES), "s": stranger})
    both = BlendState((BlendChannel("a", 1, 0.5), BlendChannel("s", 1, 1.0)))
    one = BlendState(both.channels[:1])
    with_it, without = engine.losses(examples, [both, one])
    assert with_it.total != pytest.approx(without.total, rel=1e-4)
    with pytest.raises(MismatchError, match="'stranger' shows no factors") as caught:
        engine.gradients(examples, both, train="a")
    assert caught.value.where == "s"
    engine.gradients(examples, one, train="a")


def test_an_overflow_is_named_as_evaluating_names_it(engine: LocalEngine, examples: list[Example]) -> None:
    loud = BlendState((BlendChannel("a", 1, 1e30),))
    messages = []
    for ask in (
        lambda: engine.evaluate(examples[0].tokens, loud),
        lambda: engine.gradients(examples[:1], loud, train="a"),
        lambda: engine.losses(examples[:1], [loud]),
    ):
        with pytest.raises(EngineError, match="the blend overflows float32 at blk.0") as caught:
            ask()
        messages.append(str(caught.value))
    assert len(set(messages)) == 1


def test_gradients_that_overflow_beside_a_sound_loss_are_refused(
    engine: LocalEngine, base: Any, tiny_adapter: Make, examples: list[Example]
) -> None:
    adapter = tiny_adapter(base, MODULES[1:2])
    adapter.factors[MODULES[1]].b *= np.float32(1e-38)
    engine.attach({"a": adapter})
    loud = BlendState((BlendChannel("a", 1, 1e38),))
    assert np.isfinite(engine.losses(examples, [loud])[0].total)
    with pytest.raises(EngineError, match="the gradients overflow"):
        engine.gradients(examples, loud, train="a")


@pytest.mark.parametrize(
    ("example", "what"),
    [
        (Example((3,), (1.0,)), "nothing to predict"),
        (Example((3, 4), (1.0, 0.0)), "nothing to predict"),
        (Example((3, 4), (1.0,)), "nothing to predict"),
        (Example((3, 4), (1.0, -1.0)), "nothing to predict"),
        (Example((3, 4), (1.0, float("nan"))), "nothing to predict"),
        (Example((), ()), "no tokens"),
        (Example((3, 40), (1.0, 1.0)), "token 40"),
        (Example.of([1] * 65), "65 tokens"),
    ],
)
def test_examples_that_teach_nothing_are_refused(engine: LocalEngine, example: Example, what: str) -> None:
    for ask in (
        lambda: engine.gradients([example], BLEND),
        lambda: engine.losses([example], [BLEND]),
        lambda: engine.gradient_memory([example]),
    ):
        with pytest.raises(EngineError, match=what):
            ask()
    with pytest.raises(EngineError, match="no examples"):
        engine.gradients([], BLEND)


@pytest.mark.usefixtures("strict_device")
def test_quantised_weights_are_used_as_they_are(
    tiny_base: Make, tiny_adapter: Make, quantised_base: Make, random_examples: Make
) -> None:
    """On the CPU, before and after the kernels have repacked them, and on a device; float16 rounds."""
    base = quantised_base(tiny_base(width=64, heads=4, head_size=16, inner=64, biased=True))
    examples = random_examples(40, (9, 12, 5))
    wanted = None
    for backend, residency, tolerance in (
        ("numpy", "dense", 0.0),
        ("numpy", "quantised", 1e-5),
        ("cupy", "dense", 1e-5),
        ("cupy", "quantised", 1e-5),
        ("cupy", "float16", 1e-2),
    ):
        engine = LocalEngine(choose_backend(backend), residency)  # type: ignore[arg-type]
        engine.open(base)
        engine.attach({"a": tiny_adapter(base, MODULES), "b": tiny_adapter(base, MODULES, seed=2)})
        found = engine.gradients(examples, BLEND, train="a")
        wanted = wanted or found
        assert_close(found, wanted, tolerance)
        if engine.prepare() and residency == "quantised":
            assert_close(engine.gradients(examples, BLEND, train="a"), wanted, tolerance)
        engine.close()


def test_what_cannot_be_trained_is_refused(engine: LocalEngine, examples: list[Example]) -> None:
    with pytest.raises(EngineError, match="not in the blend"):
        engine.gradients(examples, BlendState(BLEND.channels[:1]), train="b")
    for rate in (1.0, -0.1, float("nan")):
        with pytest.raises(EngineError, match="no rate of dropout"):
            engine.gradients(examples, BLEND, train="a", dropout=Dropout(rate))


def test_the_estimate_of_memory_is_near_what_is_taken(
    tiny_base: Make, tiny_adapter: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a model whose layers take much more than its factors; both ways, and the short one takes less."""
    base = tiny_base(layers=8, width=64, heads=4, head_size=16, inner=192, context=300)
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach({"a": tiny_adapter(base, ["blk.0.attn_q.weight", "blk.0.ffn_down.weight"])})
    state = BlendState((BlendChannel("a", 1, 1.0),))
    examples = [Example.of([token % 40 for token in range(129)])]
    taken, needed = [], []
    for free in (1 << 40, 8 << 20):
        monkeypatch.setattr("studio.engine.backend.available_memory", lambda free=free: free)
        memory = engine.gradient_memory(examples)
        assert memory.available == free and memory.fits
        engine.gradients(examples, state, train="a")
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        engine.gradients(examples, state, train="a")
        taken.append(tracemalloc.get_traced_memory()[1] - before)
        tracemalloc.stop()
        needed.append(memory.needed)
        assert memory.is_short == (free < 1 << 40)
    assert taken[1] < taken[0] / 2
    for its, estimate in zip(taken, needed, strict=True):
        assert 0.5 * estimate < its < 1.1 * estimate


@pytest.mark.parametrize("free", [1 << 40, 1 << 20])
def test_nothing_waits_for_the_garbage_collector(
    engine: LocalEngine, examples: list[Example], monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """What a pass remembers is large: it goes as soon as the pass ends, cancelled or not."""
    monkeypatch.setattr("studio.engine.backend.available_memory", lambda: free)
    assert engine.gradient_memory(examples).is_short == (free == 1 << 20)
    answers = itertools.chain([False] * 12, itertools.repeat(True))  # on the way back
    gc.collect()
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        engine.gradients(examples, BLEND, train="a", dropout=Dropout(0.1))
        with contextlib.suppress(CancelledError):
            engine.gradients(examples, BLEND, cancelled=lambda: next(answers))
        assert next(answers)  # it was
        gc.collect()
        assert [waiting for waiting in gc.garbage if isinstance(waiting, np.ndarray | Traced)] == []
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def test_what_cannot_fit_is_refused_before_it_runs(
    engine: LocalEngine, examples: list[Example], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.engine.backend.available_memory", lambda: 1000)
    assert not engine.gradient_memory(examples).fits
    with pytest.raises(EngineError, match="GB of memory"):
        engine.gradients(examples, BLEND)
    monkeypatch.setattr("studio.engine.backend.available_memory", lambda: None)
    assert engine.gradient_memory(examples).fits
    engine.gradients(examples, BLEND)
