"""The delta of a whole blend on one module: one pair of products, however many adapters sound."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import BlendState, DeltaAdapter, FloatArray, LowRankAdapter, ScaledDelta
from studio.engine.low_rank import PackedFactors, low_rank_delta, pack_factors, weight_shape
from studio.errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping


class BlendDelta:
    """Computes sum_i s_i dW_i x, and keeps each module's packed factors until its adapters change.

    A slider or a gain changes only the vector of scales; packing happens when an adapter comes, goes or
    changes.
    """

    def __init__(self) -> None:
        self._packs: dict[str, tuple[tuple[tuple[str, int], ...], PackedFactors]] = {}

    def clear(self) -> None:
        """Let go of all packed factors."""
        self._packs = {}

    def __call__(
        self, members: Mapping[str, DeltaAdapter], blend: BlendState, module: str, inputs: FloatArray
    ) -> FloatArray | None:
        """Return the delta for inputs ``[..., in]`` as ``[..., out]``; None where nothing acts on the module.

        Raises
        ------
        MismatchError
            The inputs have another length than an adapter takes, or the adapters differ in their output.
        """
        low_rank: dict[tuple[str, int], LowRankAdapter] = {}
        scales: list[float] = []
        total: FloatArray | None = None
        for channel in blend.channels:
            adapter = members[channel.key]
            if isinstance(adapter, ScaledDelta):
                scale = channel.scale_of(module)
                delta = adapter.delta_at(module, inputs, scale) if scale else None
                if delta is not None:
                    total = _sum(total, delta, module, channel.key)
            elif not isinstance(adapter, LowRankAdapter):
                delta = adapter.delta(module, inputs)
                if delta is not None:
                    total = _sum(total, np.float32(channel.scale_of(module)) * delta, module, channel.key)
            elif module in adapter.factors:
                low_rank[channel.key, channel.version] = adapter
                scales.append(channel.scale_of(module))
        if low_rank:
            packed = self._packed(module, low_rank)
            if inputs.shape[-1] != packed.a.shape[-1]:
                raise MismatchError(
                    f"takes inputs of {packed.a.shape[-1]} features, not {inputs.shape[-1]}", where=module
                )
            rank_scales = packed.rank_scales(np.asarray(scales, dtype=np.float32))
            delta = low_rank_delta(inputs, packed.a, packed.b, rank_scales)
            total = _sum(total, delta, module, ", ".join(key for key, _ in low_rank))
        return total

    def _packed(self, module: str, adapters: Mapping[tuple[str, int], LowRankAdapter]) -> PackedFactors:
        versions = tuple(adapters)
        known = self._packs.get(module)
        if known is not None and known[0] == versions:
            return known[1]
        factors = [adapter.factors[module] for adapter in adapters.values()]
        shapes = {weight_shape(pair) for pair in factors}
        if len(shapes) > 1:
            raise MismatchError(
                f"the adapters act on weights of different shapes {sorted(shapes)}",
                where=module,
                remedy="They are made for different bases; remove one",
            )
        packed = pack_factors(factors)
        assert packed is not None  # there is at least one pair
        self._packs[module] = versions, packed
        return packed


def _sum(total: FloatArray | None, delta: FloatArray, module: str, key: str) -> FloatArray:
    if total is None:
        return delta
    if delta.shape != total.shape:
        raise MismatchError(f"{key} gives outputs {delta.shape}, the others {total.shape}", where=module)
    return total + delta
