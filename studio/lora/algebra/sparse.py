"""Methods that prune each delta and then add what stays, with or without an election of signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from studio.lora.algebra.election import Divisor, Majority, merge_agreeing
from studio.lora.algebra.pruning import (
    Pruner,
    generator_of,
    keep_by_chance,
    keep_by_ranked_chance,
    keep_largest,
    keep_middle,
)
from studio.lora.algebra.rows import each_matrix, from_blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.contracts import DeltaPart, FloatArray
    from studio.lora.algebra.singular import Doubles

PrunerOf: TypeAlias = "Callable[[DeltaPart, int, int], Pruner]"
"""Makes the pruner of a part ``(rank, in)``, ``(out, rank)``, given its expert and its position."""

Fuse: TypeAlias = "Callable[[Doubles, Sequence[float]], Doubles]"
"""Makes one delta ``[rows, in]`` of N pruned ones ``[N, rows, in]`` and their weights."""


def magnitude_prune(module: str, parts: Sequence[DeltaPart], *, density: float) -> FloatArray:
    """Return the sum of the deltas, each cut down to its largest weights."""
    return _merge(parts, lambda part, _, __: keep_largest(part, density), _add)


def ties(
    module: str,
    parts: Sequence[DeltaPart],
    *,
    density: float,
    majority: Majority,
    divide_by: Divisor,
    lambda_: float,
) -> FloatArray:
    """Trim, elect sign and merge (Yadav et al. 2023, https://arxiv.org/abs/2306.01708)."""
    return _merge(
        parts,
        lambda part, _, __: keep_largest(part, density),
        _elect(majority, divide_by, lambda_),
    )


def dare_linear(module: str, parts: Sequence[DeltaPart], *, density: float, seed: int) -> FloatArray:
    """Drop by chance, rescale and add (Yu et al. 2023, https://arxiv.org/abs/2311.03099)."""
    return _merge(parts, _by_chance(module, density, seed), _add)


def dare_ties(
    module: str,
    parts: Sequence[DeltaPart],
    *,
    density: float,
    majority: Majority,
    divide_by: Divisor,
    lambda_: float,
    seed: int,
) -> FloatArray:
    """Drop by chance and rescale as DARE does, then elect sign and merge as TIES does."""
    return _merge(parts, _by_chance(module, density, seed), _elect(majority, divide_by, lambda_))


def della(
    module: str,
    parts: Sequence[DeltaPart],
    *,
    density: float,
    epsilon: float,
    majority: Majority,
    divide_by: Divisor,
    lambda_: float,
    seed: int,
) -> FloatArray:
    """Drop by chance that falls with magnitude, elect, fuse (Deep et al. 2024, arXiv:2406.11617)."""

    def pruner_of(_: DeltaPart, expert: int, position: int) -> Pruner:
        return keep_by_ranked_chance(density, epsilon, generator_of(seed, module, expert, position))

    return _merge(parts, pruner_of, _elect(majority, divide_by, lambda_))


def breadcrumbs(
    module: str,
    parts: Sequence[DeltaPart],
    *,
    density: float,
    gamma: float,
    majority: Literal["none", "total", "frequency"],
    lambda_: float,
) -> FloatArray:
    """Drop outliers and small weights, then add (Davari and Belilovsky 2023, arXiv:2312.06795).

    With a `majority` the deltas that disagree with the elected sign are left out of the sum.
    """

    def fuse(deltas: Doubles, weights: Sequence[float]) -> Doubles:
        if majority == "none":
            return lambda_ * _add(deltas, weights)
        return lambda_ * merge_agreeing(deltas, weights, majority, "nothing")

    return _merge(parts, lambda part, _, __: keep_middle(part, density, gamma), fuse)


def _merge(parts: Sequence[DeltaPart], pruner_of: PrunerOf, fuse: Fuse) -> FloatArray:
    weights = [part.weight for part in parts]

    def merge(expert: int, matrix: Sequence[DeltaPart]) -> FloatArray:
        pruners = [pruner_of(part, expert, position) for position, part in enumerate(matrix)]

        def merge_rows(deltas: Doubles) -> Doubles:
            for position, prune in enumerate(pruners):
                deltas[position] = prune(deltas[position])
            return fuse(deltas, weights)

        return from_blocks(matrix, merge_rows)

    return each_matrix(parts, merge)


def _by_chance(module: str, density: float, seed: int) -> PrunerOf:
    return lambda _, expert, position: keep_by_chance(density, generator_of(seed, module, expert, position))


def _elect(majority: Majority, divide_by: Divisor, lambda_: float) -> Fuse:
    return lambda deltas, weights: lambda_ * merge_agreeing(deltas, weights, majority, divide_by)


def _add(deltas: Doubles, _: Sequence[float]) -> Doubles:
    added: Doubles = deltas.sum(axis=0)
    return added
