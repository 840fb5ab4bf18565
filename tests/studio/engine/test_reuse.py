"""Evaluations that begin where they first differ from an earlier one: less runs, and nobody can tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains, Sampling
from studio.engine import decoder
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.model import EMBEDDING, HEAD
from studio.errors import CancelledError

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
LAYERS = 4
EVERYWHERE = [
    EMBEDDING,
    *(f"blk.{layer}.{name}.weight" for layer in range(LAYERS) for name in ("attn_k", "ffn_up")),
]
LATE = ["blk.2.attn_v.weight", "blk.3.ffn_down.weight", HEAD]
FOLDER = Path(__file__).parents[2] / "data" / "architectures"
NAMES = sorted(path.stem for path in FOLDER.glob("*.gguf"))
ALL_LAYERS = [0, 1, 2, 3]

ROUNDING = 3e-6
"""By how much these models' logits may differ: passes of other lengths alone round by up to 1.4e-6."""


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def blend(gain: float = 1.0, **scales: float) -> BlendState:
    gains = Gains.of({LATE[1]: gain})
    return BlendState(tuple(BlendChannel(key, 1, scale, gains) for key, scale in scales.items()))


@dataclass
class Watched:
    """An engine, and which layers it runs: ``(layer, first position, positions)`` since it was asked last."""

    engine: LocalEngine
    runs: list[tuple[int, int, int]] = field(default_factory=list)

    def watch(self, monkeypatch: pytest.MonkeyPatch) -> None:
        assert self.engine._base is not None
        model: Any = self.engine._base.model
        block = model.block

        def watched(run: Any, index: int, *rest: Any) -> Any:
            self.runs.append((index, run.start, run.length))
            return block(run, index, *rest)

        monkeypatch.setattr(model, "block", watched)

    def took(self) -> list[tuple[int, int, int]]:
        runs, self.runs = self.runs, []
        return runs


def layers(indices: list[int], start: int, length: int) -> list[tuple[int, int, int]]:
    return [(index, start, length) for index in indices]


@pytest.fixture
def base(tiny_base: Make) -> Any:
    return tiny_base(layers=LAYERS)


@pytest.fixture
def adapters(base: Any, tiny_adapter: Make) -> dict[str, Any]:
    return {"a": tiny_adapter(base, EVERYWHERE), "late": tiny_adapter(base, LATE, seed=2)}


@pytest.fixture
def watched(base: Any, adapters: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Watched:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach(adapters)
    watched = Watched(engine)
    watched.watch(monkeypatch)
    return watched


@pytest.fixture
def fresh(base: Any, adapters: dict[str, Any]) -> Callable[..., Any]:
    """Evaluate with an engine that has seen nothing yet."""

    def evaluate(tokens: list[int], state: BlendState, now: dict[str, Any] | None = None) -> Any:
        engine = LocalEngine(choose_backend("numpy"), reuse=False)
        engine.open(base)
        engine.attach(adapters if now is None else now)
        return engine.evaluate(tokens, state).logits

    return evaluate


# What runs


def test_of_a_prompt_that_grows_the_new_tokens_run(watched: Watched, fresh: Make) -> None:
    state = blend(a=0.7, late=1)
    watched.engine.evaluate(TOKENS[:4], state)
    assert watched.took() == layers(ALL_LAYERS, 0, 4)
    logits = watched.engine.evaluate(TOKENS, state).logits
    assert watched.took() == layers(ALL_LAYERS, 4, 3)
    assert relative_error(logits, fresh(TOKENS, state)) < 1e-6


def test_of_a_prompt_that_was_changed_what_follows_the_change_runs(watched: Watched, fresh: Make) -> None:
    state = blend(a=0.7)
    changed = [*TOKENS[:3], 8, *TOKENS[4:]]
    watched.engine.evaluate(TOKENS, state)
    watched.took()
    logits = watched.engine.evaluate(changed, state).logits
    assert watched.took() == layers(ALL_LAYERS, 3, 4)
    assert relative_error(logits, fresh(changed, state)) < 1e-6
    watched.engine.evaluate(TOKENS, state)
    assert watched.took() == []  # both are kept


def test_of_a_prompt_that_is_known_nothing_runs(watched: Watched, fresh: Make) -> None:
    state = blend(a=0.7)
    first = watched.engine.evaluate(TOKENS, state).logits
    watched.took()
    assert watched.engine.evaluate(TOKENS, state).logits.tobytes() == first.tobytes()
    assert relative_error(watched.engine.evaluate(TOKENS[:3], state).logits, fresh(TOKENS[:3], state)) < 1e-6
    assert watched.engine.evaluate(TOKENS, state).logits.tobytes() == first.tobytes()
    assert watched.took() == []


@pytest.mark.parametrize(
    ("state", "again"),
    [
        (blend(a=0.7, late=0.5), [2, 3]),
        (blend(a=0.7, late=1, gain=2), [3]),
        (blend(a=0.7), [2, 3]),
        (blend(a=0.6, late=1), ALL_LAYERS),
        (blend(late=1), ALL_LAYERS),
    ],
    ids=["late scale", "gain of one module", "late adapter silent", "early scale", "early adapter silent"],
)
def test_after_a_change_the_layers_from_there_on_run(
    watched: Watched, fresh: Make, state: BlendState, again: list[int]
) -> None:
    watched.engine.evaluate(TOKENS, blend(a=0.7, late=1))
    watched.took()
    logits = watched.engine.evaluate(TOKENS, state).logits
    assert watched.took() == layers(again, 0, len(TOKENS))
    np.testing.assert_array_equal(logits, fresh(TOKENS, state))


def test_a_late_change_and_new_tokens_come_together(watched: Watched, fresh: Make) -> None:
    watched.engine.evaluate(TOKENS[:4], blend(a=0.7, late=1))
    watched.took()
    logits = watched.engine.evaluate(TOKENS, blend(a=0.7)).logits
    assert watched.took() == layers([2, 3], 0, 4) + layers(ALL_LAYERS, 4, 3)
    assert relative_error(logits, fresh(TOKENS, blend(a=0.7))) < 1e-6


def test_the_base_alone_runs_beside_a_late_blend(watched: Watched) -> None:
    watched.engine.evaluate(TOKENS, BASE_ALONE)
    watched.engine.evaluate(TOKENS, blend(late=1))
    assert watched.took() == layers(ALL_LAYERS, 0, 7) + layers([2, 3], 0, 7)
    watched.engine.evaluate(TOKENS, BASE_ALONE)
    assert watched.took() == []


def test_the_head_alone_takes_no_layer(watched: Watched, base: Any, tiny_adapter: Make, fresh: Make) -> None:
    now = {"head": tiny_adapter(base, [HEAD])}
    watched.engine.evaluate(TOKENS, BASE_ALONE)
    watched.took()
    watched.engine.attach(now)
    logits = watched.engine.evaluate(TOKENS, blend(head=1)).logits
    assert watched.took() == []
    np.testing.assert_array_equal(logits, fresh(TOKENS, blend(head=1), now))


def test_many_blends_share_what_they_have_in_common(watched: Watched, fresh: Make) -> None:
    states = [blend(a=0.7, late=scale) for scale in (0.1, 0.2, 0.3)]
    watched.engine.evaluate(TOKENS[:5], blend(a=0.7))
    watched.took()
    found = watched.engine.evaluate_many(TOKENS, states)
    assert watched.took() == layers([2, 3], 0, 5) + layers(ALL_LAYERS, 5, 2)
    for evaluation in found:
        assert relative_error(evaluation.logits, fresh(TOKENS, evaluation.state)) < 1e-6


def test_without_reuse_everything_runs(base: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    watched = Watched(LocalEngine(choose_backend("numpy"), reuse=False))
    watched.engine.open(base)
    watched.watch(monkeypatch)
    for _ in range(2):
        watched.engine.evaluate(TOKENS, BASE_ALONE)
        assert watched.took() == layers(ALL_LAYERS, 0, 7)


def test_what_is_kept_makes_room_where_memory_runs_out(strict_device: Any, base: Any) -> None:
    engine = LocalEngine(choose_backend("cupy"))
    engine.open(base)
    expected = engine.evaluate(TOKENS, BASE_ALONE).logits
    assert engine._base is not None
    alone = engine._base.traces.nbytes
    engine.evaluate([8, 9], BASE_ALONE)
    assert engine._base.traces.nbytes > alone
    strict_device.failures = [strict_device.cuda.memory.OutOfMemoryError("4 GB")] * 2
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, expected)
    assert engine._base.traces.nbytes == alone


# Streams


def test_a_stream_begins_with_what_was_evaluated(watched: Watched) -> None:
    state = blend(a=0.7)
    watched.engine.evaluate(TOKENS, state)
    watched.took()
    stream = watched.engine.generate(TOKENS, state, Sampling(max_tokens=3))
    assert len(list(islice(stream, 2))) == 2
    assert watched.took() == layers(ALL_LAYERS, 7, 1)


def test_a_stream_and_evaluations_leave_each_other_alone(watched: Watched, fresh: Make) -> None:
    state, sampling = blend(a=0.7, late=1), Sampling(max_tokens=8)
    alone = list(LocalEngine.generate(watched.engine, TOKENS, state, sampling))
    stream = watched.engine.generate(TOKENS, state, sampling)
    found = []
    for number, token in enumerate(stream):
        found.append(token)
        longer = [*TOKENS, number, number + 1]
        for asked in (state, blend(a=0.7, late=number)):
            assert relative_error(watched.engine.evaluate(longer, asked).logits, fresh(longer, asked)) < 1e-6
    assert found == alone


# What must not be reused


def test_a_retrained_adapter_is_heard_from_its_first_layer_on(
    watched: Watched, adapters: dict[str, Any], fresh: Make
) -> None:
    watched.engine.evaluate(TOKENS, blend(late=1))
    watched.took()
    for factors in adapters["late"].factors.values():
        factors.b *= 2
    adapters["late"].version = 2
    state = BlendState((BlendChannel("late", 2, 1.0),))
    logits = watched.engine.evaluate(TOKENS, state).logits
    assert watched.took() == layers([2, 3], 0, 7)
    np.testing.assert_array_equal(logits, fresh(TOKENS, state))


def test_another_adapter_under_the_same_key_is_another(
    watched: Watched, base: Any, tiny_adapter: Make, fresh: Make
) -> None:
    for seed in (5, 6, 5):
        now = {"late": tiny_adapter(base, LATE, seed=seed)}
        watched.engine.attach(now)
        found = watched.engine.evaluate(TOKENS, blend(late=1)).logits
        np.testing.assert_array_equal(found, fresh(TOKENS, blend(late=1), now))


def test_one_adapter_under_two_keys_is_heard_twice(
    watched: Watched, adapters: dict[str, Any], fresh: Make
) -> None:
    now = {"a": adapters["a"], "b": adapters["a"]}
    watched.engine.attach(now)
    for state in (blend(a=0.5), blend(a=0.5, b=0.5), blend(b=0.5)):
        assert relative_error(watched.engine.evaluate(TOKENS, state).logits, fresh(TOKENS, state, now)) < 1e-6


def test_another_base_begins_anew(watched: Watched, tiny_base: Make) -> None:
    other = tiny_base(layers=LAYERS, seed=3)
    watched.engine.evaluate(TOKENS, BASE_ALONE)
    watched.engine.open(other)
    bare = LocalEngine(choose_backend("numpy"))
    bare.open(other)
    found = watched.engine.evaluate(TOKENS, BASE_ALONE).logits
    np.testing.assert_array_equal(found, bare.evaluate(TOKENS, BASE_ALONE).logits)


def test_a_cancelled_evaluation_leaves_nothing_wrong(
    watched: Watched, fresh: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoder, "PASS_COLUMNS", 2)
    state = blend(a=0.7)
    watched.engine.evaluate(TOKENS[:2], state)
    polls = 0

    def cancelled() -> bool:
        nonlocal polls
        polls -= 1
        return polls < 0

    for polls in (0, 1, LAYERS, LAYERS + 1):
        with pytest.raises(CancelledError):
            watched.engine.evaluate([*TOKENS, polls], state, cancelled=cancelled)
    watched.took()
    found = watched.engine.evaluate(TOKENS, state).logits
    assert watched.took() == layers(ALL_LAYERS, 4, 2) + layers(ALL_LAYERS, 6, 1)  # one pass had come through
    assert relative_error(found, fresh(TOKENS, state)) < 1e-6
