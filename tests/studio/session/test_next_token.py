from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.contracts import FloatArray
from studio.session.next_token import compare_next_token, likeliest, log_softmax


def logits_of(*probabilities: float) -> FloatArray:
    """Logits whose softmax is the given distribution, shifted so that nothing relies on their sum."""
    with np.errstate(divide="ignore"):
        return np.asarray(np.log(probabilities) + 3.0, dtype=np.float32)


def test_divergence_and_entropies_equal_the_hand_computed() -> None:
    # KL((1/2, 1/2) || (1/4, 3/4)) = ln 2 - (ln 3) / 2; H(1/2, 1/2) = ln 2; H(1/4, 3/4) = 2 ln 2 - (3/4) ln 3
    result = compare_next_token(base=logits_of(0.25, 0.75), blend=logits_of(0.5, 0.5), piece=str)
    assert result.kl == pytest.approx(np.log(2) - np.log(3) / 2, abs=1e-6)
    assert result.entropy_blend == pytest.approx(np.log(2), abs=1e-6)
    assert result.entropy_base == pytest.approx(2 * np.log(2) - 0.75 * np.log(3), abs=1e-6)


def test_candidates_are_the_likeliest_of_both_the_blends_first() -> None:
    result = compare_next_token(
        base=logits_of(0.6, 0.2, 0.1, 0.1),
        blend=logits_of(0.1, 0.2, 0.3, 0.4),
        piece="abcd".__getitem__,
        top=1,
    )
    assert [(row.id, row.piece) for row in result.candidates] == [(3, "d"), (0, "a")]
    first, second = result.candidates
    assert (first.p_base, first.p_blend) == pytest.approx((0.1, 0.4), abs=1e-6)
    assert (second.p_base, second.p_blend) == pytest.approx((0.6, 0.1), abs=1e-6)


def test_equal_distributions_have_no_divergence() -> None:
    logits = logits_of(0.2, 0.3, 0.5)
    assert compare_next_token(logits, logits, str).kl == 0.0


def test_a_token_without_any_probability_counts_as_nothing() -> None:
    result = compare_next_token(base=logits_of(0.5, 0.5), blend=logits_of(1.0, 0.0), piece=str)
    assert result.kl == pytest.approx(np.log(2), abs=1e-6)
    assert result.entropy_blend == 0.0
    assert (result.candidates[1].id, result.candidates[1].p_blend) == (1, 0.0)


def test_small_probabilities_are_kept_in_double_precision() -> None:
    log_p = log_softmax(np.array([0.0, -80.0], dtype=np.float32))
    assert log_p[1] == pytest.approx(-80.0, abs=1e-12)
    assert log_p[0] == pytest.approx(-np.exp(-80.0), rel=1e-6) or log_p[0] == 0.0


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.integers(0, 40))
def test_likeliest_is_a_stable_sort_cut_short(scores: list[int], count: int) -> None:
    expected = sorted(range(len(scores)), key=lambda token: (-scores[token], token))[:count]
    assert likeliest(np.array(scores, dtype=np.float32), count) == expected
