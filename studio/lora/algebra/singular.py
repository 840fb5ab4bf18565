"""Singular values and vectors of deltas: through small cores for factors, by projection for dense ones."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from studio.contracts import DeltaPart
from studio.engine.blas_threads import one_blas_thread

if TYPE_CHECKING:
    from studio.contracts import CombinedDelta, FloatArray

Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""A NumPy array of float64; comments give its shape."""

WELL_CONDITIONED = 1e-8
"""Smallest over largest eigenvalue of A A^T from which on its square roots are exact to 1e-8."""

SMALL = 256
"""Dense matrices with a side up to this are decomposed exactly, which is as fast."""

OVERSAMPLING = 16
MOST_ITERATIONS = 24
CONVERGED = 2e-5
"""Stop iterating when the energy left out shrinks by less than this share of itself."""


@dataclass(frozen=True)
class Decomposition:
    """The K largest singular triples: dW ~ left @ right.

    Attributes
    ----------
    left
        U S, float64 ``[..., out, K]``.
    values
        The singular values, descending, float64 ``[..., K]``.
    right
        V^T, float64 ``[..., K, in]``.
    """

    left: Doubles
    values: Doubles
    right: Doubles


def decompose(part: DeltaPart, most: int | None = None) -> Decomposition:
    """Return the singular triples of scale * B A without forming it; experts ``(E, ...)`` one by one.

    With A = F Q^T, Q orthonormal ``[in, K]``, dW = C Q^T where C = B F is ``[out, K]``: the eigenvectors of
    the small C^T C turn Q into V and C into U S. Singular values below 1e-8 of the largest are noise.

    Parameters
    ----------
    part
        The delta.
    most
        How many triples to return, the largest; None for all.
    """
    with one_blas_thread():
        rows, mixing, coefficients = _row_basis(part.a.astype(np.float64))
        columns = (part.b.astype(np.float64) * part.scale) @ coefficients  # [out, R] @ [R, K]
        squares, vectors = np.linalg.eigh(_transposed(columns) @ columns)
        count = min(columns.shape[-2], columns.shape[-1], most or columns.shape[-1])
        vectors = vectors[..., ::-1][..., :count]
        values = np.sqrt(np.maximum(squares[..., ::-1][..., :count], 0.0))
        right = _transposed(mixing @ vectors) @ rows  # [count, K] @ [K, in]
        return Decomposition(columns @ vectors, values, right)


def decompose_dense(matrix: FloatArray, rank: int) -> Decomposition:
    """Return the `rank` largest singular triples of a dense ``[out, in]``.

    Small matrices and high ranks are decomposed exactly. The others by subspace iteration from a random start
    (Halko, Martinsson and Tropp 2011, https://arxiv.org/abs/0909.4061, algorithm 4.4), until the energy left
    out, ||dW - dW V V^T||_F^2, stays where it is.
    """
    shorter = min(matrix.shape)
    width = 2 * rank + OVERSAMPLING
    if shorter <= SMALL or 2 * width >= shorter:
        return _decompose_whole(matrix, rank)
    total = float(np.einsum("ij,ij->", matrix, matrix, dtype=np.float64))
    start = np.random.default_rng(0).standard_normal((matrix.shape[1], width), dtype=np.float32)
    basis = np.linalg.qr(start)[0]
    captured = 0.0
    for _ in range(MOST_ITERATIONS):
        images = matrix @ basis  # [out, in] @ [in, width]
        squares = np.linalg.eigvalsh((images.T @ images).astype(np.float64))[::-1]
        before, captured = captured, float(squares[:rank].sum())
        if captured - before <= CONVERGED * max(total - captured, 1e-12 * total):
            break
        basis = np.linalg.qr(matrix.T @ np.linalg.qr(images)[0])[0]
    projected = DeltaPart(basis.T, matrix @ basis, 1.0)
    return decompose(projected, rank)


def singular_values(delta: CombinedDelta) -> Doubles:
    """Return all singular values of a delta, descending: float64 ``[K]``, ``[E, K]`` for experts.

    Those of a dense delta come from its Gram matrix on the shorter side, one expert at a time; values below
    1e-8 of the largest are noise.
    """
    if isinstance(delta, DeltaPart):
        return decompose(delta).values
    if delta.ndim == 3:
        return np.stack([singular_values(expert) for expert in delta])
    wide = delta if delta.shape[0] <= delta.shape[1] else delta.T
    wide = wide.astype(np.float64)
    return np.asarray(np.sqrt(np.maximum(np.linalg.eigvalsh(wide @ wide.T)[::-1], 0.0)))


def _row_basis(a: Doubles) -> tuple[Doubles, Doubles, Doubles]:
    """Return X ``[R', in]``, M ``[R', K]``, F ``[R, K]``: A = F Q^T, the columns of Q = X^T M orthonormal.

    By the Gram matrix A A^T, which is fast, or by Householder's QR where rows of A are nearly dependent:
    adapters that share a beginning, or more ranks than features.
    """
    norms = np.linalg.norm(a, axis=-1, keepdims=True)  # [R, 1]: rows of one length condition it best
    norms[norms == 0] = 1.0
    rows = a / norms
    eigenvalues, vectors = np.linalg.eigh(rows @ _transposed(rows))
    if np.all(eigenvalues[..., 0] > WELL_CONDITIONED * eigenvalues[..., -1]):
        lengths = np.sqrt(eigenvalues)[..., None, :]  # [1, R]
        return rows, vectors / lengths, norms * vectors * lengths
    basis, triangle = np.linalg.qr(_transposed(rows))
    return _transposed(basis), np.eye(basis.shape[-1]), norms * _transposed(triangle)


def _decompose_whole(matrix: FloatArray, rank: int) -> Decomposition:
    left, values, right = np.linalg.svd(matrix.astype(np.float64), full_matrices=False)
    return Decomposition((left * values)[:, :rank], values[:rank], right[:rank])


def _transposed(matrices: Doubles) -> Doubles:
    return matrices.swapaxes(-1, -2)
