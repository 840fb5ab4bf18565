"""Adapters made of adapters without any loss: scaled, negated, subtracted, split by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.engine.low_rank import weight_shape
from studio.errors import MismatchError
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.targets import layer_of

if TYPE_CHECKING:
    from collections.abc import Mapping


def scaled(adapter: Adapter, factor: float) -> Adapter:
    """Return an adapter whose delta is so many times the delta of this one."""
    factors = {
        module: LoraFactors(pair.a, pair.b * np.float32(factor), pair.alpha, pair.rank_stabilised)
        for module, pair in adapter.factors.items()
    }
    return with_factors(adapter, f"{adapter.name}*{factor:.4g}", factors)


def negated(adapter: Adapter) -> Adapter:
    """Return an adapter that takes away what this one adds: both together leave the base as it is."""
    return scaled(adapter, -1.0)


def difference(first: Adapter, second: Adapter) -> Adapter:
    """Return an adapter that leads from the second one to the first: dW_1 - dW_2, exact.

    Raises
    ------
    MismatchError
        They act on weights of different shapes.
    """
    factors: dict[str, LoraFactors] = {}
    away = negated(second)
    for module in dict.fromkeys([*first.factors, *second.factors]):
        pairs = [one.factors[module] for one in (first, away) if module in one.factors]
        if len({weight_shape(pair) for pair in pairs}) > 1:
            raise MismatchError(
                f"{first.name} and {second.name} act on weights of different shapes",
                where=module,
                remedy="Subtract adapters of one base",
            )
        factors[module] = pairs[0] if len(pairs) == 1 else _side_by_side(pairs[0], pairs[1])
    return with_factors(first, f"{first.name} - {second.name}", factors)


def split_by_layer(adapter: Adapter) -> dict[int | None, Adapter]:
    """Return an adapter for each layer, whose sum is this one; None holds what is outside the blocks."""
    layers: dict[int | None, dict[str, LoraFactors]] = {}
    for module, pair in adapter.factors.items():
        layers.setdefault(layer_of(module), {})[module] = pair
    return {
        layer: with_factors(adapter, adapter.name if layer is None else f"{adapter.name}, layer {layer}", own)
        for layer, own in layers.items()
    }


def with_factors(adapter: Adapter, name: str, factors: Mapping[str, LoraFactors]) -> Adapter:
    """Return an adapter of other factors for the same base, in the same order of rows."""
    return Adapter(
        name,
        factors,
        source=adapter.source,
        format=adapter.format,
        architecture=adapter.architecture,
        rows_as_stored=adapter.rows_as_stored,
    )


def _side_by_side(first: LoraFactors, second: LoraFactors) -> LoraFactors:
    a = np.concatenate([first.a, second.a], axis=-2)
    b = np.concatenate([first.b * np.float64(first.scaling), second.b * np.float64(second.scaling)], axis=-1)
    return LoraFactors(a, b.astype(np.float32), float(a.shape[-2]))
