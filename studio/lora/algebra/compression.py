"""Any delta as an adapter of a limited rank: the best approximation that has it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import DeltaPart
from studio.lora.algebra.ranks import RankLimit
from studio.lora.algebra.singular import Decomposition, decompose, decompose_dense, singular_values

if TYPE_CHECKING:
    from studio.contracts import CombinedDelta, FloatArray

EVERYTHING = RankLimit()


def compress(delta: CombinedDelta, limit: RankLimit = EVERYTHING) -> DeltaPart:
    """Return the nearest delta of the rank that the limit asks for, in factors.

    By Eckart and Young 1936 it keeps the largest singular values. Both factors take the square roots of them,
    so that their weights are of one size. Factors within a limit on the rank alone are returned as they are.

    Parameters
    ----------
    delta
        In factors, or dense ``(out, in)`` or ``(E, out, in)``; experts share one rank, the largest that one
        of them needs.
    """
    if isinstance(delta, DeltaPart):
        if not limit or (limit.fixed and delta.a.shape[-2] <= limit.rank):
            return delta
        found = decompose(delta, limit.rank if limit.fixed else None)
        return _factors(found, limit.of(found.values))
    rank = min(limit.rank, *delta.shape[-2:]) if limit.fixed else limit.of(singular_values(delta))
    if delta.ndim == 2:
        return _factors(decompose_dense(delta, rank), rank)
    experts = [compress(expert, RankLimit(rank)) for expert in delta]
    a, b = np.stack([expert.a for expert in experts]), np.stack([expert.b for expert in experts])
    return DeltaPart(a, b, 1.0)


def _factors(found: Decomposition, rank: int) -> DeltaPart:
    roots = np.sqrt(found.values[..., :rank])
    inverses = np.divide(1.0, roots, out=np.zeros_like(roots), where=roots > 0)
    a = roots[..., :, None] * found.right[..., :rank, :]
    b = found.left[..., :rank] * inverses[..., None, :]
    return DeltaPart(_single(a), _single(b), 1.0)


def _single(values: np.ndarray[tuple[int, ...], np.dtype[np.float64]]) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float32)
