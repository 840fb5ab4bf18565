"""Which weights of a delta stay: the largest, those in the middle, or some by chance.

A pruner is given the rows of one matrix, block after block, and returns them pruned. Chance is drawn weight
by weight in this order from a generator of the matrix's own, so neither the size of the blocks nor the order
of the modules changes what stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from studio.lora.algebra.rows import delta_blocks
from studio.lora.algebra.selection import kth_largest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from studio.contracts import DeltaPart
    from studio.lora.algebra.singular import Doubles

Pruner: TypeAlias = "Callable[[Doubles], Doubles]"
"""Rows of a delta ``[rows, in]`` to those rows pruned."""


def generator_of(seed: int, module: str, expert: int, position: int) -> np.random.Generator:
    """Return the source of chance for one adapter's delta in one matrix.

    Parameters
    ----------
    seed
        The user's.
    module, expert
        Which matrix.
    position
        Of the adapter among those that have the module.
    """
    return np.random.default_rng([seed, expert, position, *module.encode()])


def keep_largest(part: DeltaPart, density: float) -> Pruner:
    """Keep the share `density` of the weights, the largest by magnitude; all that tie with the last stay."""
    return _between(_kth(part, int(density * _size(part))), np.inf)


def keep_middle(part: DeltaPart, density: float, gamma: float) -> Pruner:
    """Drop the share `gamma` of the weights, the largest, and of the rest the smallest down to `density`.

    The masks of Davari and Belilovsky 2023, https://arxiv.org/abs/2312.06795. Where both shares do not fit
    side by side, fewer of the largest are dropped.
    """
    size = _size(part)
    kept = int(density * size)
    outliers = min(int(gamma * size), size - kept)
    return _between(_kth(part, outliers + kept), _kth(part, outliers))


def keep_by_chance(density: float, generator: np.random.Generator) -> Pruner:
    """Keep each weight with probability `density`, over which it is divided: its expectation stays.

    DARE's drop and rescale: Yu et al. 2023, https://arxiv.org/abs/2311.03099, with p = 1 - density.
    """

    def prune(rows: Doubles) -> Doubles:
        stay = generator.random(rows.shape, dtype=np.float32) < density
        return np.where(stay, rows / density, 0.0)

    return prune


def keep_by_ranked_chance(density: float, epsilon: float, generator: np.random.Generator) -> Pruner:
    """Keep each weight with a probability that grows with its rank in its row, over which it is divided.

    DELLA's MagPrune: Deep et al. 2024, https://arxiv.org/abs/2406.11617. The probabilities rise in equal
    steps from density - epsilon for the smallest magnitude of a row to density + epsilon for the largest, as
    far as they are probabilities.
    """

    def prune(rows: Doubles) -> Doubles:
        ranks = np.argsort(np.argsort(np.abs(rows), axis=1, kind="stable"), axis=1, kind="stable")
        share = ranks / max(rows.shape[1] - 1, 1)  # 0 for the smallest of the row, 1 for the largest
        chances = np.clip(density + epsilon * (2 * share - 1), 0.0, 1.0)
        stay = generator.random(rows.shape, dtype=np.float32) < chances
        kept: Doubles = np.divide(rows, chances, out=np.zeros_like(rows), where=stay)
        return kept

    return prune


def _between(least: float, bound: float) -> Pruner:
    """Keep magnitudes from `least` on and below `bound`, or infinity."""

    def prune(rows: Doubles) -> Doubles:
        magnitudes = np.abs(rows)
        return np.where((magnitudes >= least) & (magnitudes < bound), rows, 0.0)

    return prune


def _kth(part: DeltaPart, k: int) -> float:
    """Return the k-th largest magnitude of a delta."""

    def magnitudes() -> Iterator[Doubles]:
        return (np.abs(deltas) for _, deltas in delta_blocks([part]))

    return kth_largest(magnitudes, k)


def _size(part: DeltaPart) -> int:
    return int(part.b.shape[0] * part.a.shape[1])
