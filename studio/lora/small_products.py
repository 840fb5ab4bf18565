"""Matrix products for worker threads: each stays on the thread that asks for it.

Threads of BLAS beside as many workers as there are cores only wait for each other: merging took 3.6 s of
processor time with them and 1.0 s without. OpenBLAS runs a product of at most 2^18 multiplications on the
thread that calls it, so larger ones are cut into such.
https://github.com/OpenMathLib/OpenBLAS/blob/develop/interface/gemm.c, SMP_THRESHOLD_MIN times
GEMM_MULTITHREAD_THRESHOLD
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from studio.contracts import FloatArray

LARGEST_SINGLE = 1 << 18
ROWS = 16


def inner(left: FloatArray, right: FloatArray) -> float:
    """Return the sum of the products of the elements of two arrays of one shape."""
    return float(np.multiply(left, right).sum(dtype=np.float64))


def product(left: FloatArray, right: FloatArray) -> FloatArray:
    """Return ``left @ right``: float32 ``[M, K] @ [K, N] -> [M, N]``."""
    rows, inner = left.shape
    result = np.empty((rows, right.shape[1]), np.float32)
    width = max(1, LARGEST_SINGLE // (ROWS * inner))
    whole = rows // ROWS * ROWS
    stacked = np.ascontiguousarray(left[:whole]).reshape(-1, ROWS, inner)
    into = result[:whole].reshape(-1, ROWS, right.shape[1])
    for first in range(0, right.shape[1], width):
        columns = slice(first, first + width)
        part = np.ascontiguousarray(right[:, columns])
        np.matmul(stacked, part, out=into[:, :, columns])
        if whole < rows:
            np.matmul(left[whole:], part, out=result[whole:, columns])
    return result
