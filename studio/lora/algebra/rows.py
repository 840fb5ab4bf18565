"""Dense deltas a block of rows and an expert at a time, so that only the result is ever held whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import DeltaPart

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from studio.contracts import FloatArray
    from studio.lora.algebra.singular import Doubles

BLOCK = 1 << 19
"""How many weights a block holds, about: 4 MB in float64 for each adapter."""


def each_matrix(
    parts: Sequence[DeltaPart], merge: Callable[[int, Sequence[DeltaPart]], FloatArray]
) -> FloatArray:
    """Merge the parts of a module by `merge(expert, parts)`, whose parts are ``(rank, in)``, ``(out, rank)``.

    A weight that has no experts is its own expert 0.
    """
    if parts[0].a.ndim == 2:
        return merge(0, parts)
    first = parts[0]
    merged = np.empty((*first.b.shape[:-1], first.a.shape[-1]), np.float32)
    for expert, matrix in enumerate(merged):
        matrix[:] = merge(
            expert, [DeltaPart(part.a[expert], part.b[expert], part.scale, part.weight) for part in parts]
        )
    return merged


def delta_blocks(parts: Sequence[DeltaPart]) -> Iterator[tuple[slice, Doubles]]:
    """Yield rows and the deltas of N parts there, float64 ``[N, rows, in]``, from the first row to the last.

    Float64, since methods compare: a rounding error next to a threshold or a sign moves whole weights.
    """
    outputs, inputs = parts[0].b.shape[0], parts[0].a.shape[1]
    step = max(1, BLOCK // inputs)
    downs = [part.a.astype(np.float64) for part in parts]
    for start in range(0, outputs, step):
        rows = slice(start, min(start + step, outputs))
        ups = [part.b[rows].astype(np.float64) * part.scale for part in parts]
        yield rows, np.stack([up @ down for up, down in zip(ups, downs, strict=True)])


def from_blocks(parts: Sequence[DeltaPart], merge: Callable[[Doubles], Doubles]) -> FloatArray:
    """Return the matrix ``(out, in)`` whose rows are `merge` of the deltas ``[N, rows, in]``, in order."""
    merged = np.empty((parts[0].b.shape[0], parts[0].a.shape[1]), np.float32)
    for rows, deltas in delta_blocks(parts):
        merged[rows] = merge(deltas)
    return merged
