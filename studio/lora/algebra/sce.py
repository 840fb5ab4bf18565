"""SCE: select the weights in which the deltas differ most, calculate weights, erase minority signs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.lora.algebra.election import agreeing
from studio.lora.algebra.rows import delta_blocks, each_matrix, from_blocks
from studio.lora.algebra.selection import kth_largest

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import DeltaPart, FloatArray
    from studio.lora.algebra.singular import Doubles


def sce(module: str, parts: Sequence[DeltaPart], *, density: float) -> FloatArray:
    """Merge by variance and energy (Wan et al. 2024, https://arxiv.org/abs/2408.07990, section 3.3).

    Of the weights in which the deltas differ at all, the share `density` with the largest variance is
    selected; each delta weighs as much as the mean of its squares there; at each weight, those that disagree
    with the sign of the sum are erased. An adapter that has the module alone is left as it is.
    """
    return each_matrix(parts, lambda _, matrix: _merge(matrix, density))


def _merge(parts: Sequence[DeltaPart], density: float) -> FloatArray:
    if len(parts) == 1:
        return from_blocks(parts, lambda deltas: deltas[0])
    least = _least_variance(parts, density) if density < 1 else 0.0

    def select(deltas: Doubles) -> Doubles:
        return np.where(deltas.var(axis=0) >= least, deltas, 0.0)

    energies = sum((select(deltas) ** 2).sum(axis=(1, 2)) for _, deltas in delta_blocks(parts))

    def merge(deltas: Doubles) -> Doubles:
        selected = select(deltas)
        weights = agreeing(selected, "total") * np.asarray(energies)[:, None, None]
        divisors = weights.sum(axis=0)
        merged: Doubles = (selected * weights).sum(axis=0)
        np.divide(merged, divisors, out=merged, where=divisors > 0)  # where it is 0, so is the sum
        return merged

    return from_blocks(parts, merge)


def _least_variance(parts: Sequence[DeltaPart], density: float) -> float:
    def variances() -> Iterator[Doubles]:
        return (deltas.var(axis=0) for _, deltas in delta_blocks(parts))

    differing = sum(int(np.count_nonzero(block)) for block in variances())
    return kth_largest(variances, int(density * differing))
