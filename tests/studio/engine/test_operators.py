"""Each operator against its definition, in column layout."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from studio.engine.low_rank import low_rank_delta, pack_factors
from studio.engine.operators import (
    attention,
    causal_mask,
    gelu,
    head_norm,
    layer_norm,
    log_normaliser,
    rms_norm,
    rotate_halves,
    rotate_pairs,
    soft_cap,
    swiglu,
)


@pytest.fixture
def random() -> np.random.Generator:
    return np.random.default_rng(0)


def test_rms_norm_makes_each_column_one_on_average(random: np.random.Generator) -> None:
    x = random.standard_normal((16, 5), dtype=np.float32) * 7
    weight = random.standard_normal(16, dtype=np.float32)
    normed = rms_norm(np, x, np.ones(16, np.float32), 0.0)
    np.testing.assert_allclose((normed**2).mean(axis=0), 1, rtol=1e-6)
    np.testing.assert_allclose(rms_norm(np, x, weight, 0.0), normed * weight[:, None], rtol=1e-6)


def test_layer_norm_makes_each_column_zero_and_one_on_average(random: np.random.Generator) -> None:
    x = random.standard_normal((16, 5), dtype=np.float32) * 7 + 3
    weight, bias = random.standard_normal((2, 16), dtype=np.float32)
    normed = layer_norm(np, x, np.ones(16, np.float32), None, 0.0)
    np.testing.assert_allclose(normed.mean(axis=0), 0, atol=1e-6)
    np.testing.assert_allclose(normed.var(axis=0), 1, rtol=1e-5)
    shifted = normed * weight[:, None] + bias[:, None]
    np.testing.assert_allclose(layer_norm(np, x, weight, bias, 0.0), shifted, rtol=1e-5, atol=1e-6)


def test_a_norm_of_heads_is_the_norm_of_each(random: np.random.Generator) -> None:
    x = random.standard_normal((3, 8, 2, 5), dtype=np.float32)
    weight = random.standard_normal(8, dtype=np.float32)
    normed = head_norm(np, x, weight, 1e-5)
    for head in range(3):
        alone = rms_norm(np, x[head].reshape(8, 10), weight, 1e-5)
        np.testing.assert_allclose(normed[head].reshape(8, 10), alone, rtol=1e-6)


@pytest.mark.parametrize("rotated", [4, 8])
def test_halves_and_pairs_are_one_rotation_in_two_orders(random: np.random.Generator, rotated: int) -> None:
    pairs = random.standard_normal((2, 8, 1, 3), dtype=np.float32)
    angles = random.standard_normal((rotated // 2, 1, 3), dtype=np.float32)
    order = [*range(0, rotated, 2), *range(1, rotated, 2), *range(rotated, 8)]
    turned = rotate_pairs(np, pairs, np.cos(angles), np.sin(angles))
    halves = rotate_halves(np, pairs[:, order], np.cos(angles), np.sin(angles))
    np.testing.assert_array_equal(halves, turned[:, order])


def test_rotated_products_depend_on_the_distance_alone(random: np.random.Generator) -> None:
    query, key = random.standard_normal((2, 1, 8, 1, 1), dtype=np.float32)
    frequencies = np.array([1.0, 0.1, 0.01, 0.001])

    def at(x: Any, position: int) -> Any:
        angles = (position * frequencies)[:, None, None].astype(np.float32)
        return rotate_pairs(np, x, np.cos(angles), np.sin(angles)).ravel()

    near, far = at(query, 9) @ at(key, 4), at(query, 25) @ at(key, 20)
    assert near == pytest.approx(far, rel=1e-4)
    assert near != pytest.approx(at(query, 9) @ at(key, 3), rel=1e-2)


def test_attention_to_equal_keys_is_the_mean_of_the_values_seen(random: np.random.Generator) -> None:
    queries = random.standard_normal((4, 3, 1, 5), dtype=np.float32)
    keys = np.ones((1, 2, 5, 3), np.float32)
    values = random.standard_normal((1, 2, 5, 3), dtype=np.float32)
    mixed = attention(np, queries, keys, values, causal_mask(np, 0, 5)).reshape(4, 3, 5)
    for head in range(4):
        for position in range(5):
            seen = values[0, head // 2, : position + 1]
            np.testing.assert_allclose(mixed[head, :, position], seen.mean(axis=0), atol=1e-6)


def test_the_mask_hides_later_positions_only() -> None:
    mask = causal_mask(np, 2, 3)
    assert mask is not None and mask.dtype == np.float32
    assert mask.tolist() == [[0, 0, 0, -math.inf, -math.inf], [0, 0, 0, 0, -math.inf], [0, 0, 0, 0, 0]]
    assert causal_mask(np, 2, 1) is None


@pytest.mark.parametrize(("start", "length", "first"), [(0, 6, 0), (7, 4, 5), (7, 4, 2)])
def test_a_window_hides_what_is_too_far_back(start: int, length: int, first: int) -> None:
    mask = causal_mask(np, start, length, first, window=3)
    assert mask is not None and mask.shape == (length, start + length - first)
    for row, query in enumerate(range(start, start + length)):
        seen = [key for key in range(first, start + length) if mask[row, key - first] == 0]
        assert seen == [key for key in range(query - 2, query + 1) if key >= 0]


def test_capped_scores_are_softer(random: np.random.Generator) -> None:
    queries, keys = np.full((1, 4, 1, 1), 5, np.float32), random.standard_normal((1, 1, 6, 4), np.float32)
    weights = np.eye(6, dtype=np.float32)[None, None]  # each value shows how much it is attended to
    scores = (keys[0, 0] @ queries[0, :, 0, 0]).astype(np.float64) * 0.3
    for softcap, softened in ((None, scores), (2.0, 2 * np.tanh(scores / 2))):
        mixed = attention(np, queries, keys, weights[..., :4], None, scale=0.3, softcap=softcap)
        np.testing.assert_allclose(mixed[:, 0], (np.exp(softened) / np.exp(softened).sum())[:4], rtol=1e-5)


def test_a_soft_cap_leaves_small_values_and_bounds_large_ones() -> None:
    np.testing.assert_allclose(
        soft_cap(np, np.array([-1e4, -0.01, 0, 0.01, 1e4]), 30.0), [-30, -0.01, 0, 0.01, 30]
    )


def test_gelu_is_near_its_definition() -> None:
    x = np.linspace(-6, 6, 49, dtype=np.float32)
    exact = [value * (1 + math.erf(value / math.sqrt(2))) / 2 for value in x.tolist()]
    np.testing.assert_allclose(gelu(np, x), exact, atol=5e-4)


def test_swiglu_is_exact_and_does_not_overflow() -> None:
    gate = np.array([[-3e4, -90, -5, -0.5, 0, 2, 90, 3e4]], np.float32)
    exact = [g / (1 + math.exp(-g)) if g > -700 else 0.0 for g in gate[0].tolist()]
    np.testing.assert_allclose(
        swiglu(np, gate, np.full_like(gate, 2))[0], np.multiply(exact, 2), rtol=1e-6, atol=1e-29
    )


def test_the_normaliser_stays_exact_over_a_large_vocabulary(random: np.random.Generator) -> None:
    logits = random.standard_normal((50_000, 2), dtype=np.float32) * 3 + 100
    exact = np.log(np.exp(logits.astype(np.float64)).sum(axis=0))
    np.testing.assert_allclose(log_normaliser(np, logits), exact, atol=2e-5)


def test_packed_factors_are_the_scaled_sum_of_their_channels(random: np.random.Generator) -> None:
    class Factors:
        def __init__(self, rank: int, scaling: float) -> None:
            self.a = random.standard_normal((rank, 6), dtype=np.float32)
            self.b = random.standard_normal((4, rank), dtype=np.float32)
            self.scaling = scaling

    first, third = Factors(2, 0.5), Factors(3, 2.0)
    packed = pack_factors([first, None, third])
    assert packed is not None and packed.a.shape == (5, 6)
    scales = packed.rank_scales(np.array([1.0, 9.0, -0.25], np.float32))
    inputs = random.standard_normal((7, 6), dtype=np.float32)
    weight = 0.5 * first.b @ first.a - 0.25 * 2.0 * third.b @ third.a
    np.testing.assert_allclose(
        low_rank_delta(inputs, packed.a, packed.b, scales), inputs @ weight.T, atol=1e-5
    )
    assert pack_factors([None, None]) is None


def test_rms_norm_does_not_hide_a_column_that_overflows() -> None:
    x = np.array([[1, 1e30], [1, 1]], np.float32)
    with np.errstate(over="ignore"):
        normed = rms_norm(np, x, np.ones(2, np.float32), 0.0)
    assert np.isfinite(normed).tolist() == [[True, False], [True, False]]


def test_a_soft_cap_does_not_hide_what_overflows() -> None:
    assert np.isfinite(soft_cap(np, np.array([1e30, np.inf, -np.inf]), 30.0)).tolist() == [True, False, False]
