"""The deltas of an export, module by module: the blend as it is heard, or as a method combines it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import BlendState, DeltaPart, LowRankAdapter, ScaledDelta
from studio.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts import CombinedDelta, DeltaAdapter, ExportRequest, FloatArray


def module_parts(
    module: str, adapters: Mapping[str, DeltaAdapter], state: BlendState
) -> tuple[DeltaPart, ...]:
    """Return the share of each audible adapter that acts on a module, in the order of the stack.

    The delta of a `ScaledDelta`, DoRA's say, is of full rank: its factors are the delta itself and the
    identity, which is exact and as large as the weight.

    Raises
    ------
    UnsupportedError
        An adapter acts on the module without showing its factors.
    """
    parts = []
    for channel in state.channels:
        adapter, scale = adapters[channel.key], channel.scale_of(module)
        if module not in adapter.modules or scale == 0:
            continue
        if isinstance(adapter, ScaledDelta):
            dense = adapter.dense_delta_at(module, scale)
            if dense is not None:
                parts.append(DeltaPart(np.eye(dense.shape[-1], dtype=np.float32), dense, 1.0, scale))
            continue
        if not isinstance(adapter, LowRankAdapter):
            raise UnsupportedError(
                f"{adapter.name} shows no low-rank factors",
                where=module,
                remedy="Mute it or remove it from the stack",
            )
        factors = adapter.factors[module]
        parts.append(DeltaPart(factors.a, factors.b, scale * factors.scaling, scale))
    return tuple(parts)


def concatenate(parts: Sequence[DeltaPart]) -> DeltaPart:
    """Put factors side by side: A ``(R, in)`` and B ``(out, R)``, whose product is the sum of the deltas.

    The largest scale stays outside, so that B keeps its digits however large or small the scales are.
    """
    largest = max(abs(part.scale) for part in parts) or 1.0
    a = np.concatenate([part.a for part in parts], axis=-2)
    b = np.concatenate([part.b * np.float32(part.scale / largest) for part in parts], axis=-1)
    return DeltaPart(a, b, largest)


def combined_delta(request: ExportRequest, module: str) -> CombinedDelta | None:
    """Return what an export adds to a module: the exact sum, or what its method makes. None for nothing."""
    if request.combination is None:
        return _sum(request, module)
    parts = module_parts(module, request.adapters, request.state)
    if not parts:
        return None
    return request.combination.method.combine(module, parts, request.combination.options)


def _sum(request: ExportRequest, module: str) -> CombinedDelta | None:
    """Return the sum of all deltas: in factors, or dense where one has none."""
    dense: FloatArray | None = None
    in_factors = []
    for channel in request.state.channels:
        adapter, scale = request.adapters[channel.key], channel.scale_of(module)
        if not isinstance(adapter, ScaledDelta):
            in_factors.append(channel)
        elif scale != 0 and (delta := adapter.dense_delta_at(module, scale)) is not None:
            dense = delta if dense is None else dense + delta
    parts = module_parts(module, request.adapters, BlendState(tuple(in_factors)))
    if dense is None:
        return concatenate(parts) if parts else None
    return dense + dense_delta(concatenate(parts)) if parts else dense


def dense_delta(delta: CombinedDelta) -> FloatArray:
    """Return a delta as the weight's shape ``(out, in)`` or ``(E, out, in)``."""
    if isinstance(delta, DeltaPart):
        return np.asarray((delta.b * np.float32(delta.scale)) @ delta.a, dtype=np.float32)
    return delta
