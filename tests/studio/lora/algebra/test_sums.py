"""Sums of deltas against sums of dense float64 arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.lora import algebra

NAMES = ("random", "alone", "experts", "SmolLM2")


@pytest.mark.parametrize("case", NAMES)
def test_sums_are_the_sums_of_the_dense_deltas(case: str, cases: Any, dense: Any, error: Any) -> None:
    parts = cases[case]
    deltas, total = dense(parts), sum(part.weight for part in parts)
    heard = deltas.sum(axis=0)
    assert error(algebra.cat("m", parts), heard) < 1e-6
    assert error(algebra.linear("m", parts, normalise=False), heard) < 1e-6
    assert error(algebra.linear("m", parts, normalise=True), heard / total) < 1e-6
    assert error(algebra.task_arithmetic("m", parts, lambda_=-0.3), -0.3 * heard) < 1e-6
    assert error(algebra.average("m", parts), heard / len(parts)) < 1e-6


@pytest.mark.parametrize("case", NAMES)
def test_svd_is_the_best_approximation_of_its_rank(case: str, cases: Any, dense: Any, error: Any) -> None:
    heard = dense(cases[case]).sum(axis=0)
    values = np.linalg.svd(heard, compute_uv=False)
    for rank in (1, 3):
        found = algebra.svd("m", cases[case], rank=rank, energy=1.0)
        assert found.a.shape[-2] == rank
        least = np.sqrt((values[..., rank:] ** 2).sum() / (values**2).sum())
        assert error(found, heard) == pytest.approx(least, rel=1e-4)


def test_svd_to_an_energy_keeps_that_share_of_the_squares(cases: Any, dense: Any, error: Any) -> None:
    parts = cases["SmolLM2"]
    found = algebra.svd("m", parts, rank=0, energy=0.9)
    rank = found.a.shape[0]
    values = np.linalg.svd(dense(parts).sum(axis=0), compute_uv=False)
    shares = np.cumsum(values**2) / (values**2).sum()
    assert shares[rank - 2] < 0.9 <= shares[rank - 1]
    assert algebra.svd("m", parts, rank=2, energy=0.9).a.shape[0] == 2


def test_weights_that_cancel_are_not_divided_by(make_parts: Any, dense: Any, error: Any) -> None:
    first, second = make_parts(ranks=(2, 2))
    parts = [first, type(second)(second.a, second.b, -first.scale, -first.weight)]
    assert error(algebra.linear("m", parts, normalise=True), dense(parts).sum(axis=0)) < 1e-6
