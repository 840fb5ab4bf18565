"""The deltas of an export, module by module: the blend as it is heard, or as a method combines it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import DeltaPart, LowRankAdapter
from studio.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts import BlendState, CombinedDelta, DeltaAdapter, ExportRequest, FloatArray


def module_parts(
    module: str, adapters: Mapping[str, DeltaAdapter], state: BlendState
) -> tuple[DeltaPart, ...]:
    """Return the share of each audible adapter that acts on a module, in the order of the stack.

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
        if not isinstance(adapter, LowRankAdapter):
            raise UnsupportedError(
                f"{adapter.name} shows no low-rank factors",
                where=module,
                remedy="Mute it or remove it from the stack",
            )
        factors = adapter.factors[module]
        parts.append(DeltaPart(factors.a, factors.b, scale * factors.scaling))
    return tuple(parts)


def concatenate(parts: Sequence[DeltaPart]) -> DeltaPart:
    """Put factors side by side: A ``(R, in)`` and B ``(out, R)``, whose product is the sum of the deltas."""
    a = np.concatenate([part.a for part in parts], axis=-2)
    b = np.concatenate([part.b * np.float32(part.scale) for part in parts], axis=-1)
    return DeltaPart(a, b, 1.0)


def combined_delta(request: ExportRequest, module: str) -> CombinedDelta | None:
    """Return what an export adds to a module: the exact sum, or what its method makes. None for nothing."""
    parts = module_parts(module, request.adapters, request.state)
    if not parts:
        return None
    if request.combination is None:
        return concatenate(parts)
    return request.combination.method.combine(module, parts, request.combination.options)


def dense_delta(delta: CombinedDelta) -> FloatArray:
    """Return a delta as the weight's shape ``(out, in)`` or ``(E, out, in)``."""
    if isinstance(delta, DeltaPart):
        return np.asarray((delta.b * np.float32(delta.scale)) @ delta.a, dtype=np.float32)
    return delta
