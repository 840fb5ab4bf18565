"""Which traces are kept, and how much memory they may take."""

from __future__ import annotations

import numpy as np
import pytest

from studio.engine.kv_cache import CacheShape
from studio.engine.layer_scales import LayerScales
from studio.engine.trace_store import MOST_TRACES, TraceStore

SHAPE, WIDTH = CacheShape(layers=2, groups=1, head_size=4), 8
POSITION = 2 * 2 * 4 * 4 + 3 * 8 * 4  # bytes of keys and values, and of what enters both layers and the norm
SILENT: LayerScales = ((), ())
LATE: LayerScales = ((), ((0, (0.5,)),))
EARLY: LayerScales = (((1, (0.5,)),), ())


def store(budget: int = 1 << 20) -> TraceStore:
    return TraceStore(np, SHAPE, WIDTH, budget)


def run(store: TraceStore, tokens: list[int], scales: LayerScales = SILENT) -> tuple[int, int]:
    """Run a sequence as a model would; return the first layer and how many positions it began with."""
    start = store.start([tokens], [scales], False)
    begun = 0 if start.inputs is None else start.inputs.shape[1]
    new = len(tokens) - start.cache.length - begun
    if start.trace is not None:
        for layer in range(start.layer + 1, 3):
            start.trace.add({layer: np.zeros((WIDTH, begun), np.float32)})
        start.cache.advance(begun + new)
        start.trace.add({layer: np.zeros((WIDTH, new), np.float32) for layer in range(3)})
        store.keep(start.trace)
    return start.layer, begun


def test_what_is_kept_is_counted() -> None:
    kept = store()
    run(kept, [1, 2, 3])
    assert kept.nbytes == 3 * POSITION
    kept.clear()
    assert kept.nbytes == 0


def test_a_sequence_that_takes_more_than_all_may_is_not_traced() -> None:
    kept = store(3 * POSITION)
    assert kept.start([[1, 2, 3, 4]], [SILENT], False).trace is None
    assert kept.start([[1, 2, 3]], [SILENT], False).trace is not None
    assert store(0).start([[1]], [SILENT], False).trace is None


def test_the_trace_used_longest_ago_goes_first() -> None:
    kept = store(9 * POSITION)
    for first in (1, 2, 3):
        run(kept, [first, 0, 0])
    run(kept, [1, 0, 0])
    run(kept, [4, 0, 0])  # 2 goes
    assert kept.nbytes == 9 * POSITION
    assert [run(kept, [first, 0, 0]) for first in (1, 3, 4, 2)] == [(2, 3), (2, 3), (2, 3), (0, 0)]


def test_there_are_never_more_than_a_few() -> None:
    kept = store()
    for first in range(3 * MOST_TRACES):
        run(kept, [first])
        assert kept.nbytes <= MOST_TRACES * POSITION


def test_the_trace_that_spares_the_most_is_taken() -> None:
    kept = store()
    run(kept, [1, 2, 3, 4], LATE)
    run(kept, [1], SILENT)
    assert run(kept, [1, 2, 3, 4], SILENT) == (1, 4)  # rather than two layers of one position
    assert run(kept, [1, 2, 3, 4], SILENT) == (2, 4)


def test_positions_turned_in_another_way_do_not_match() -> None:
    kept = store()
    run(kept, [1, 2])
    assert kept.start([[1, 2]], [SILENT], True).layer == 0
    assert kept.start([[1, 2]], [SILENT], False).layer == 2


def test_of_several_sequences_all_begin_where_all_can() -> None:
    kept = store()
    run(kept, [1, 2, 3, 4], SILENT)
    start = kept.start([[1, 2, 3, 9], [1, 2]], [SILENT, LATE], False)
    assert start.trace is None and start.cache.blends == 2 and start.cache.length == 0
    assert (start.layer, start.inputs.shape) == (1, (WIDTH, 2))  # type: ignore[union-attr]


def test_traces_of_adapters_that_went_go_where_they_are_of_no_use() -> None:
    kept = store()
    run(kept, [1, 2], EARLY)
    run(kept, [1, 2], LATE)
    kept.keep_only({7})
    assert kept.nbytes == 2 * POSITION
    assert run(kept, [1, 2], SILENT) == (1, 2)


@pytest.mark.parametrize("cut", [1, 2, 3])
def test_a_fork_has_its_own_memory(cut: int) -> None:
    kept = store()
    run(kept, [1, 2, 3])
    before = kept.start([[1, 2, 3]], [SILENT], False).trace
    start = kept.start([[*[1, 2, 3][:cut], 9, 9]], [LATE], False)
    assert before is not None and start.trace is not None and start.cache is not before.cache
    for layer in range(2):
        for mine, its in zip(start.cache.layer(layer), before.cache.layer(layer), strict=True):
            assert not np.shares_memory(mine, its)
    assert start.trace.inputs(np, 1, 0, 9).shape == (WIDTH, cut)
