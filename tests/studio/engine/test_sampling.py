"""Choosing tokens: each filter against its definition."""

from __future__ import annotations

import numpy as np
import pytest

from studio.contracts import Sampling
from studio.engine.sampling import check_sampling, choose_token, token_probabilities
from studio.errors import EngineError

PROBABILITIES = np.array([0.05, 0.4, 0.15, 0.3, 0.1])
LOGITS = np.log(PROBABILITIES).astype(np.float32)


def kept(sampling: Sampling) -> list[int]:
    return np.flatnonzero(token_probabilities(LOGITS, sampling)).tolist()


def test_without_filters_the_distribution_is_the_softmax() -> None:
    np.testing.assert_allclose(token_probabilities(LOGITS, Sampling(temperature=1)), PROBABILITIES, rtol=1e-6)


def test_temperature_raises_to_a_power() -> None:
    expected = PROBABILITIES**2 / (PROBABILITIES**2).sum()
    np.testing.assert_allclose(token_probabilities(LOGITS, Sampling(temperature=0.5)), expected, rtol=1e-5)


def test_top_k_keeps_the_likeliest() -> None:
    assert kept(Sampling(temperature=1, top_k=2)) == [1, 3]
    assert kept(Sampling(temperature=1, top_k=99)) == [0, 1, 2, 3, 4]


def test_top_p_keeps_the_smallest_set_that_reaches_p() -> None:
    assert kept(Sampling(temperature=1, top_p=0.39)) == [1]
    assert kept(Sampling(temperature=1, top_p=0.69)) == [1, 3]
    assert kept(Sampling(temperature=1, top_p=0.71)) == [1, 2, 3]


def test_min_p_drops_below_a_share_of_the_likeliest() -> None:
    assert kept(Sampling(temperature=1, min_p=0.26)) == [1, 2, 3]
    assert kept(Sampling(temperature=1, min_p=1.0)) == [1]


def test_filters_follow_each_other() -> None:
    assert kept(Sampling(temperature=1, top_k=3, top_p=0.8)) == [
        1,
        3,
    ]  # 0.4 and 0.3 of the 0.85 that top-k kept
    assert kept(Sampling(temperature=9, top_p=0.69)) == [1, 3]  # the temperature comes last


def test_draws_have_the_frequencies_of_the_distribution() -> None:
    random = np.random.default_rng(0)
    drawn = [choose_token(LOGITS, Sampling(temperature=1), random) for _ in range(20_000)]
    np.testing.assert_allclose(np.bincount(drawn) / len(drawn), PROBABILITIES, atol=0.02)


def test_greedy_takes_the_first_of_equals() -> None:
    logits = np.array([0, 3, 3, 1], np.float32)
    assert choose_token(logits, Sampling(temperature=0), np.random.default_rng(0)) == 1


def test_a_tiny_temperature_does_not_overflow() -> None:
    assert choose_token(100 * LOGITS, Sampling(temperature=1e-30), np.random.default_rng(0)) == 1


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("temperature", -1.0),
        ("temperature", float("nan")),
        ("top_k", -1),
        ("top_p", 0.0),
        ("top_p", 1.1),
        ("min_p", -0.1),
        ("max_tokens", -5),
    ],
)
def test_settings_that_mean_nothing_are_named(field: str, value: float) -> None:
    with pytest.raises(EngineError, match=f"^{field}: .*Give a number"):
        check_sampling(Sampling(**{field: value}))  # type: ignore[arg-type]
