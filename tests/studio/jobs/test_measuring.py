from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.contracts import BASE_ALONE, BlendState, DeltaAdapter, Work
from studio.engine.local import LocalEngine
from studio.errors import EngineError
from studio.formats.gguf_file import GgufFile
from studio.jobs.measuring import last_logits, measure, windows
from studio.session.next_token import log_softmax


def finish(work: Work) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


@given(length=st.integers(1, 400), context=st.integers(2, 60))
def test_windows_score_every_token_once_with_half_a_context_before_it(length: int, context: int) -> None:
    plan = windows(length, context)
    assert [token for window in plan for token in range(window.scored, window.stop)] == list(range(1, length))
    assert all(window.stop - window.start <= context for window in plan)
    assert all(window.scored - window.start >= context // 2 for window in plan[1:])


def test_a_text_within_the_context_is_one_window() -> None:
    assert len(windows(64, 64)) == 1
    assert len(windows(65, 64)) == 2


@pytest.mark.parametrize("positions", ["last", "all"])
@pytest.mark.parametrize("length", [1, 2, 7, 8, 9, 50])
def test_in_any_windows_bigrams_score_as_in_one(
    make_engine: Any,
    table_base: Any,
    shift: DeltaAdapter,
    blend: Callable[[float], BlendState],
    length: int,
    positions: Any,
) -> None:
    """A bigram's prediction needs no history, so windows must change nothing."""
    tokens = [token % 32 for token in range(0, 5 * length, 5)]
    results = []
    for context_length in (8, 64):
        engine = make_engine(context_length=context_length)
        engine.open(table_base)
        engine.attach({"shift": shift})
        results.append(finish(measure(engine, tokens, blend(1.5), positions)))
    windowed, whole = results
    np.testing.assert_allclose(windowed.scores, whole.scores, rtol=1e-6)
    np.testing.assert_array_equal(windowed.logits, whole.logits)
    assert windowed.logits.shape == ((length, 32) if positions == "all" else (32,))
    assert windowed.tokens == tuple(tokens)
    assert (windowed.mean_nll is None) == (length == 1)


def test_mean_nll_equals_the_hand_computed(make_engine: Any, table_base: Any) -> None:
    engine = make_engine()
    engine.open(table_base)
    table = log_softmax(table_base.dense("table"))
    measurement = finish(measure(engine, [4, 7, 1], BASE_ALONE))
    assert measurement.mean_nll == pytest.approx(-(table[4, 7] + table[7, 1]) / 2, rel=1e-6)


def test_a_llama_beyond_its_context_is_scored_with_the_history_of_its_window(
    local_engine: LocalEngine, tiny_llama: GgufFile
) -> None:
    local_engine.open(tiny_llama)
    tokens = [
        (7 * token) % 40 for token in range(50)
    ]  # a context of 32: windows [0, 32) and [16, 48), [32, 50)
    last, every = (finish(measure(local_engine, tokens, BASE_ALONE, which)) for which in ("last", "all"))
    np.testing.assert_allclose(last.scores, every.scores, atol=1e-5)
    np.testing.assert_allclose(last.logits, every.logits[-1], atol=1e-4)
    second = local_engine.evaluate(tokens[16:48], BASE_ALONE, positions="all").logits
    np.testing.assert_allclose(finish(last_logits(local_engine, tokens, BASE_ALONE)), last.logits, atol=1e-4)
    np.testing.assert_allclose(every.logits[31:47], second[15:31], atol=1e-4)


def test_no_tokens_are_refused(engine: Any) -> None:
    with pytest.raises(EngineError, match="no tokens"):
        finish(measure(engine, [], BASE_ALONE))
