"""Two engines on one open base, each on a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Example, Sampling
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.residency import Residency
from studio.errors import CancelledError, EngineError

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
EXAMPLES = [Example.of(TOKENS * 4), Example.of(TOKENS)]
MODULES = ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"]
HALF, OTHER = BlendState((BlendChannel("a", 1, 0.5),)), BlendState((BlendChannel("b", 1, -0.7),))
GREEDY = Sampling(max_tokens=12, temperature=0)
SIZES = {"width": 64, "heads": 4, "groups": 2, "head_size": 16, "inner": 64}


@pytest.fixture
def base(tiny_base: Make, quantised_base: Make) -> Any:
    return quantised_base(tiny_base(**SIZES))


@pytest.fixture
def engine(base: Any) -> Iterator[LocalEngine]:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    yield engine
    engine.close()


def desk(engine: LocalEngine, adapter: Any) -> list[Any]:
    """Do what the desk does."""
    engine.attach({"a": adapter})
    logits = [engine.evaluate(TOKENS[:count], HALF).logits for count in (7, 3, 7)]
    return [*logits, list(engine.generate(TOKENS, HALF, GREEDY)), engine.evaluate(TOKENS, BASE_ALONE).logits]


def training(engine: LocalEngine, adapter: Any) -> list[Any]:
    """Do what training does, samples among it."""
    engine.attach({"b": adapter})
    found = engine.gradients(EXAMPLES, OTHER, train="b")
    (loss,) = engine.losses(EXAMPLES, [OTHER])
    sample = list(engine.generate(TOKENS, OTHER, GREEDY))
    return [found.factors[MODULES[0]].a, found.factors[MODULES[1]].b, found.loss.total, loss.total, sample]


def repeatedly(work: Callable[[], list[Any]], start: threading.Barrier) -> list[list[Any]]:
    start.wait(10)
    return [work() for _ in range(6)]


@pytest.mark.parametrize("residency", ["dense", "quantised"])
@pytest.mark.parametrize("prepared", [False, True])
def test_two_threads_compute_at_once_and_each_gets_its_own(
    base: Any, tiny_adapter: Make, residency: Residency, prepared: bool
) -> None:
    """With NumPy or with the kernels, which then serve both."""
    engine = LocalEngine(choose_backend("numpy"), residency)
    engine.open(base)
    sibling = engine.sibling()
    if prepared:
        assert engine.prepare() and sibling.prepare()
    mine, its = tiny_adapter(base, MODULES), tiny_adapter(base, MODULES, seed=2)
    alone = [desk(engine, mine), training(sibling, its)]
    start = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        both = [
            pool.submit(repeatedly, lambda: desk(engine, mine), start),
            pool.submit(repeatedly, lambda: training(sibling, its), start),
        ]
        together = [one.result() for one in both]
    for wanted, rounds in zip(alone, together, strict=True):
        for found in rounds:
            for one, other in zip(found, wanted, strict=True):
                np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    engine.close()


def test_weights_are_there_once_and_adapters_are_each_ones_own(
    engine: LocalEngine, base: Any, tiny_adapter: Make
) -> None:
    sibling = engine.sibling()
    assert sibling.weights is engine.weights
    engine.attach({"a": tiny_adapter(base, MODULES)})
    sibling.attach({"b": tiny_adapter(base, MODULES, seed=2)})
    engine.evaluate(TOKENS, HALF)
    sibling.evaluate(TOKENS, OTHER)
    with pytest.raises(EngineError, match="not attached"):
        sibling.evaluate(TOKENS, HALF)


def test_a_closed_sibling_leaves_all_to_the_other(engine: LocalEngine) -> None:
    assert engine.prepare()
    wanted = list(engine.generate(TOKENS, BASE_ALONE, GREEDY))
    sibling = engine.sibling()
    assert list(sibling.generate(TOKENS, BASE_ALONE, GREEDY)) == wanted
    sibling.close()
    with pytest.raises(EngineError, match="no base is open"):
        sibling.evaluate(TOKENS, BASE_ALONE)
    assert engine.prepare()
    assert list(engine.generate(TOKENS, BASE_ALONE, GREEDY)) == wanted


@pytest.mark.parametrize("reopens", [False, True])
def test_a_sibling_ends_with_the_base(engine: LocalEngine, tiny_base: Make, reopens: bool) -> None:
    """In the midst of its work, at the next layer; and whatever is asked of it then."""
    sibling = engine.sibling()
    polls = 0

    def close_in_between() -> bool:
        nonlocal polls
        polls += 1
        if polls == 3:
            engine.open(tiny_base()) if reopens else engine.close()
        return False

    with pytest.raises(CancelledError):
        sibling.gradients(EXAMPLES, BASE_ALONE, cancelled=close_in_between)
    assert polls == 3
    with pytest.raises(CancelledError):
        sibling.evaluate(TOKENS, BASE_ALONE)
    with pytest.raises(EngineError, match="no base is open"):
        sibling.evaluate(TOKENS, BASE_ALONE)


def test_a_stream_of_a_sibling_ends_with_the_base(engine: LocalEngine) -> None:
    sibling = engine.sibling()
    stream = sibling.generate(TOKENS, BASE_ALONE, GREEDY)
    next(stream)
    engine.close()
    with pytest.raises(CancelledError):
        next(stream)


def test_on_a_device_a_sibling_has_a_thread_a_stream_and_a_pool_of_its_own(
    strict_device: Any, base: Any, tiny_adapter: Make
) -> None:
    """The double refuses memory of one pool on another's thread; only the weights are shared."""
    engine = LocalEngine(choose_backend("cupy"), "dense")
    engine.open(base)
    sibling = engine.sibling()
    first, second = strict_device.pools
    assert first.used > 10_000 and second.used == 0
    its = tiny_adapter(base, MODULES, seed=2)
    on_host = LocalEngine(choose_backend("numpy"), "dense")
    on_host.open(base)
    wanted = training(on_host, its)
    start = threading.Barrier(2)
    with ThreadPoolExecutor(2) as pool:
        mine = tiny_adapter(base, MODULES)
        both = [
            pool.submit(repeatedly, lambda: desk(engine, mine), start),
            pool.submit(repeatedly, lambda: training(sibling, its), start),
        ]
        _, rounds = [one.result() for one in both]
    for found in rounds:
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_allclose(one, other, rtol=1e-3, atol=1e-4)
    engine.close()
    with pytest.raises(CancelledError):
        sibling.evaluate(TOKENS, BASE_ALONE)
    sibling.close()
