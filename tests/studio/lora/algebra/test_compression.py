"""A compressed delta is the best of its rank, whatever the factors are like."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.contracts import DeltaPart
from studio.lora.algebra import RankLimit, compress, singular_values
from studio.lora.algebra.singular import decompose
from studio.lora.combining import concatenate


def least_error(delta: Any, rank: int) -> float:
    values = np.linalg.svd(delta, compute_uv=False)
    return float(np.sqrt((values[..., rank:] ** 2).sum() / (values**2).sum()))


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (3, 12, 20), (5, 60), (60, 5)])
def test_factors_and_dense_deltas_are_cut_alike(
    shape: tuple[int, ...], make_parts: Any, dense: Any, error: Any
) -> None:
    parts = make_parts(shape, (4, 4, 3))
    delta = dense(parts).sum(axis=0)
    for rank in (1, 4):
        for given in (concatenate(parts), delta.astype(np.float32)):
            found = compress(given, RankLimit(rank))
            assert found.a.shape == (*shape[:-2], rank, shape[-1])
            assert found.b.shape == (*shape[:-1], rank)
            assert error(found, delta) == pytest.approx(least_error(delta, rank), rel=1e-4)


def test_singular_values_are_those_of_the_dense_delta(cases: Any, dense: Any) -> None:
    for parts in cases.values():
        delta = dense(parts).sum(axis=0)
        expected = np.linalg.svd(delta, compute_uv=False)
        for given in (concatenate(parts), delta.astype(np.float32)):
            found = singular_values(given)
            np.testing.assert_allclose(
                found, expected[..., : found.shape[-1]], atol=2e-6 * expected.max(), rtol=0
            )


def test_the_difference_of_two_adapters_that_are_nearly_one_keeps_its_digits(
    make_parts: Any, dense: Any, error: Any
) -> None:
    """Where the rows of A are nearly dependent their Gram matrix has lost what tells them apart."""
    (part,) = make_parts(ranks=(6,))
    change = np.random.default_rng(0).standard_normal(part.a.shape) * 3e-7
    other = DeltaPart((part.a * (1 + change)).astype(np.float32), part.b, -part.scale)
    difference = dense([part, other]).sum(axis=0)
    assert 0 < np.linalg.norm(difference) < 1e-5 * np.linalg.norm(dense([part]))
    found = compress(concatenate([part, other]), RankLimit(3))
    assert error(found, difference) == pytest.approx(least_error(difference, 3), rel=1e-4)


def test_factors_of_wildly_different_sizes_are_cut_right(make_parts: Any, dense: Any, error: Any) -> None:
    first, second = make_parts(ranks=(3, 3))
    second = DeltaPart(second.a * np.float32(1e-9), second.b * np.float32(1e9), second.scale)
    delta = dense([first, second]).sum(axis=0)
    found = compress(concatenate([first, second]), RankLimit(4))
    assert error(found, delta) == pytest.approx(least_error(delta, 4), rel=1e-4)


def test_more_ranks_than_features_and_silent_factors_are_cut(make_parts: Any, dense: Any, error: Any) -> None:
    parts = make_parts((12, 8), (6, 6, 6))
    delta = dense(parts).sum(axis=0)
    assert len(decompose(concatenate(parts)).values) == 8
    assert error(compress(concatenate(parts), RankLimit(8)), delta) < 1e-5
    silent = DeltaPart(parts[0].a, np.zeros_like(parts[0].b), 1.0)
    assert not compress(silent, RankLimit(2)).b.any()
    assert compress(silent, RankLimit(energy=0.9)).a.shape[0] == 1


@pytest.mark.parametrize("decay", [0.0, 0.02, 0.3])
def test_large_dense_deltas_are_cut_by_iteration_as_well_as_exactly(decay: float) -> None:
    """Spectra that are flat, as pruning leaves them, and ones that fall."""
    random = np.random.default_rng(1)
    noise = random.standard_normal((600, 400))
    left, _, right = np.linalg.svd(noise, full_matrices=False)
    values = np.exp(-decay * np.arange(400)) * np.linspace(1, 0.5, 400)
    delta = ((left * values) @ right).astype(np.float32)
    found = compress(delta, RankLimit(8))
    error = np.linalg.norm(delta - found.b.astype(np.float64) @ found.a) / np.linalg.norm(delta)
    assert error == pytest.approx(least_error(delta, 8), rel=1e-3, abs=1e-6)


def test_what_is_within_the_limit_is_left_as_it_is(make_parts: Any) -> None:
    part = concatenate(make_parts())
    assert compress(part) is part
    assert compress(part, RankLimit(part.a.shape[0])) is part
