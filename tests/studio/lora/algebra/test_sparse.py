"""Methods that prune, against the same done to whole dense float64 arrays, given the same masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.lora import algebra
from studio.lora.algebra import rows
from studio.lora.algebra.pruning import generator_of

NAMES = ("random", "alone", "experts", "SmolLM2")
MODULE = "blk.3.attn_q.weight"
ELECTION: dict[str, Any] = {"majority": "total", "divide_by": "count", "lambda_": 0.7}


@pytest.fixture(params=NAMES)
def parts(request: pytest.FixtureRequest, cases: Any) -> Any:
    return cases[request.param]


def largest(deltas: Any, density: float) -> Any:
    """Keep the largest weights of each matrix ``[..., out, in]``."""
    flat = deltas.reshape(-1, deltas.shape[-2] * deltas.shape[-1])
    pruned = np.zeros_like(flat)
    for row, kept in zip(flat, pruned, strict=True):
        order = np.argsort(-np.abs(row))[: int(density * row.size)]
        kept[order] = row[order]
    return pruned.reshape(deltas.shape)


def chances(deltas: Any, seed: int) -> Any:
    """Draw what the methods draw: a number for each weight of each adapter and expert."""
    drawn = np.empty(deltas.shape)
    stacked = drawn if deltas.ndim == 4 else drawn[:, None]
    for position, experts in enumerate(stacked):
        for expert, matrix in enumerate(experts):
            source = generator_of(seed, MODULE, expert, position)
            matrix[:] = source.random(matrix.shape, dtype=np.float32)
    return drawn


def disjoint_mean(deltas: Any, votes: Any = None) -> Any:
    """Merge as the paper of TIES says, weight by weight."""
    sign = np.where((deltas if votes is None else votes).sum(axis=0) >= 0, 1, -1)
    agree = np.sign(deltas) == sign
    return (deltas * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1)


def test_magnitude_prune(parts: Any, dense: Any, error: Any) -> None:
    expected = largest(dense(parts), 0.3).sum(axis=0)
    assert error(algebra.magnitude_prune(MODULE, parts, density=0.3), expected) < 1e-6


def test_ties(parts: Any, dense: Any, error: Any) -> None:
    trimmed = largest(dense(parts), 0.2)
    found = algebra.ties(MODULE, parts, density=0.2, **ELECTION)
    assert error(found, 0.7 * disjoint_mean(trimmed)) < 1e-6
    by_number = algebra.ties(MODULE, parts, density=0.2, **ELECTION | {"majority": "frequency"})
    assert error(by_number, 0.7 * disjoint_mean(trimmed, np.sign(trimmed))) < 1e-6


def test_ties_may_divide_by_weights_or_by_nothing(parts: Any, dense: Any, error: Any) -> None:
    trimmed = largest(dense(parts), 0.5)
    agree = np.sign(trimmed) == np.where(trimmed.sum(axis=0) >= 0, 1, -1)
    total = (trimmed * agree).sum(axis=0)
    weights = np.tensordot([part.weight for part in parts], agree, axes=1)
    for divide_by, expected in (
        ("nothing", total),
        ("weights", total / np.where(weights == 0, 1, weights)),
    ):
        options = ELECTION | {"divide_by": divide_by, "lambda_": 1.0}
        assert error(algebra.ties(MODULE, parts, density=0.5, **options), expected) < 1e-6


def test_dare(parts: Any, dense: Any, error: Any) -> None:
    deltas = dense(parts)
    kept = np.where(chances(deltas, 7) < 0.4, deltas / 0.4, 0)
    found = algebra.dare_linear(MODULE, parts, density=0.4, seed=7)
    assert error(found, kept.sum(axis=0)) < 1e-6
    found = algebra.dare_ties(MODULE, parts, density=0.4, seed=7, **ELECTION)
    assert error(found, 0.7 * disjoint_mean(kept)) < 1e-6


def test_della(parts: Any, dense: Any, error: Any) -> None:
    deltas = dense(parts)
    ranks = np.empty(deltas.shape)
    np.put_along_axis(
        ranks, np.argsort(np.abs(deltas), axis=-1), np.linspace(0.4, 0.8, deltas.shape[-1]), axis=-1
    )  # the smallest weight of a row stays with probability 0.4, the largest with 0.8
    kept = np.where(chances(deltas, 1) < ranks, deltas / ranks, 0)
    found = algebra.della(MODULE, parts, density=0.6, epsilon=0.2, seed=1, **ELECTION)
    assert error(found, 0.7 * disjoint_mean(kept)) < 1e-6


def test_breadcrumbs(parts: Any, dense: Any, error: Any) -> None:
    deltas = dense(parts)
    size = deltas.shape[-1] * deltas.shape[-2]
    outliers, kept = int(0.05 * size), int(0.5 * size)
    middle = largest(deltas, (outliers + kept) / size) - largest(deltas, outliers / size)
    options: dict[str, Any] = {"density": 0.5, "gamma": 0.05, "lambda_": 2.0}
    found = algebra.breadcrumbs(MODULE, parts, majority="none", **options)
    assert error(found, 2 * middle.sum(axis=0)) < 1e-6
    agree = np.sign(middle) == np.where(middle.sum(axis=0) >= 0, 1, -1)
    found = algebra.breadcrumbs(MODULE, parts, majority="total", **options)
    assert error(found, 2 * (middle * agree).sum(axis=0)) < 1e-6


def test_a_density_of_one_keeps_everything(parts: Any, dense: Any, error: Any) -> None:
    heard = dense(parts).sum(axis=0)
    assert error(algebra.magnitude_prune(MODULE, parts, density=1.0), heard) < 1e-6
    assert error(algebra.dare_linear(MODULE, parts, density=1.0, seed=0), heard) < 1e-6


def test_the_size_of_the_blocks_changes_nothing(parts: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def all_methods() -> list[Any]:
        options: dict[str, Any] = {"density": 0.3, **ELECTION}
        return [
            algebra.ties(MODULE, parts, **options),
            algebra.dare_ties(MODULE, parts, seed=3, **options),
            algebra.della(MODULE, parts, seed=3, epsilon=0.1, **options),
            algebra.breadcrumbs(MODULE, parts, density=0.3, gamma=0.1, majority="none", lambda_=1.0),
            algebra.sce(MODULE, parts, density=0.3),
        ]

    whole = all_methods()
    monkeypatch.setattr(rows, "BLOCK", 7 * parts[0].a.shape[-1])  # 7 rows a block
    for one, other in zip(whole, all_methods(), strict=True):
        assert np.linalg.norm(one - other) < 1e-6 * np.linalg.norm(one)


def test_chance_depends_on_the_seed_and_the_module(make_parts: Any) -> None:
    parts = make_parts()
    first = algebra.dare_linear("a", parts, density=0.5, seed=1)
    assert np.array_equal(first, algebra.dare_linear("a", parts, density=0.5, seed=1))
    assert not np.array_equal(first, algebra.dare_linear("a", parts, density=0.5, seed=2))
    assert not np.array_equal(first, algebra.dare_linear("b", parts, density=0.5, seed=1))
    options: dict[str, Any] = {"density": 0.5, "epsilon": 0.2, **ELECTION}
    first = algebra.della("a", parts, seed=1, **options)
    assert not np.array_equal(first, algebra.della("a", parts, seed=2, **options))


def test_what_chance_drops_is_made_up_for_on_the_average(make_parts: Any, dense: Any, error: Any) -> None:
    parts = make_parts()
    mean = np.mean([algebra.dare_linear("m", parts, density=0.5, seed=seed) for seed in range(400)], axis=0)
    assert error(mean, dense(parts).sum(axis=0)) < 0.12  # about 1 / sqrt(400), times what three deltas cancel
