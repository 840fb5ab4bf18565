"""Weight norms of a blend per module, from r x r Gram matrices: dW is never formed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from studio.contracts import (
    BaseModel,
    BlendState,
    DeltaAdapter,
    LowRankAdapter,
    LowRankFactors,
    Progress,
)
from studio.engine.low_rank import pack_factors

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

Norms: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""A NumPy array of float64; comments give its shape."""

_CHUNK = 1 << 20
"""How many weights are squared at once, in elements: keeps the float64 copy at 8 MB."""


@dataclass(frozen=True, eq=False)
class BlendNorms:
    """The Frobenius norm of sum_i s_i dW_i in every module, as a quadratic form in the scales s there.

    ||sum_i s_i dW_i||_F^2 = s^T G s, with G_ij = <dW_i, dW_j> computed once; a slider move is one product.
    s_i is the scale of the adapter times its gain in the module.

    Attributes
    ----------
    keys
        The adapters, N of them.
    modules
        The modules, M of them.
    grams
        G of every module, float64 ``[M, N, N]``; 0 where an adapter lacks the module.
    unknown
        bool ``[M, N]``: where an adapter acts without showing factors, so that its norm is not known.
    """

    keys: tuple[str, ...]
    modules: tuple[str, ...]
    grams: Norms
    unknown: np.ndarray[Any, np.dtype[np.bool_]]

    @classmethod
    def of(cls, adapters: Mapping[str, DeltaAdapter], modules: Sequence[str]) -> BlendNorms:
        """Compute the Gram matrices of these adapters, by key, in these modules."""
        keys = tuple(adapters)
        grams = np.zeros((len(modules), len(keys), len(keys)))
        unknown = np.zeros((len(modules), len(keys)), dtype=bool)
        factors = [
            adapter.factors if isinstance(adapter, LowRankAdapter) else {} for adapter in adapters.values()
        ]
        for column, adapter in enumerate(adapters.values()):
            if not isinstance(adapter, LowRankAdapter):
                unknown[:, column] = np.isin(modules, list(adapter.modules))
        for row, module in enumerate(modules):
            grams[row] = gram([own.get(module) for own in factors])
        return cls(keys, tuple(modules), grams, unknown)

    def own_norms(self) -> Norms:
        """Return each adapter's own norm at scale 1, ``[M, N]``; NaN where it is not known."""
        norms: Norms = np.sqrt(np.maximum(np.einsum("mii->mi", self.grams), 0.0))
        norms[self.unknown] = np.nan
        return norms

    def blend_norms(self, blend: BlendState) -> Norms:
        """Return the blend's norm in every module, ``[M]``; NaN where an adapter that sounds is not known."""
        scales = self._scales(blend)  # [M, N]
        # Rounding can push the square of a blend that cancels out a hair below 0.
        squares = np.maximum(np.einsum("mi,mij,mj->m", scales, self.grams, scales), 0.0)
        norms: Norms = np.sqrt(squares)
        norms[(self.unknown & (scales != 0)).any(axis=1)] = np.nan
        return norms

    def _scales(self, blend: BlendState) -> Norms:
        """Return scale times gain of every adapter in every module, ``[M, N]``; 0 for one that is silent."""
        scales = np.zeros((len(self.modules), len(self.keys)))
        for channel in blend.channels:
            if channel.key not in self.keys:
                continue
            column = self.keys.index(channel.key)
            scales[:, column] = channel.scale
            for module, _ in channel.gains.by_module:
                if module in self._rows:
                    scales[self._rows[module], column] = channel.scale_of(module)
        return scales

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {module: row for row, module in enumerate(self.modules)}


def gram(factors: Sequence[LowRankFactors | None]) -> Norms:
    """Return the inner products G_ij = <dW_i, dW_j> of N adapters on one module, float64 ``[N, N]``.

    <dW_i, dW_j> = c_i c_j tr((B_j^T B_i) (A_i A_j^T)), so with the factors side by side along the rank all
    N^2 of them are blocks of one product of two small matrices. Those of experts are summed over the experts.
    """
    packed = pack_factors(factors)
    if packed is None:
        return np.zeros((len(factors), len(factors)))
    a, b = packed.a.astype(np.float64), packed.b.astype(np.float64)
    scaling = packed.scaling.astype(np.float64)
    products = (a @ a.swapaxes(-1, -2)) * (b.swapaxes(-1, -2) @ b)  # [R, R] or [E, R, R]
    products = products.reshape(-1, *products.shape[-2:]).sum(axis=0) * np.outer(scaling, scaling)  # [R, R]
    member = (packed.channel[:, None] == np.arange(len(factors))).astype(np.float64)  # [R, N]
    return np.asarray(member.T @ products @ member)  # sums each block: [N, N]


def base_norms(base: BaseModel, modules: Sequence[str]) -> Generator[Progress, None, Norms]:
    """Compute ||W||_F of every module ``[M]``, one weight in memory at a time; NaN where it is missing."""
    norms = np.full(len(modules), np.nan)
    for row, module in enumerate(modules):
        yield Progress(row, len(modules), module)
        if module in base.tensors:
            flat = base.dense(module).reshape(-1)
            chunks = (
                flat[start : start + _CHUNK].astype(np.float64) for start in range(0, flat.size, _CHUNK)
            )
            norms[row] = np.sqrt(sum(float(chunk @ chunk) for chunk in chunks))
    return norms
