"""Where a blend acts: by layer, which adapters are heard there and how loud, so that two blends compare."""

from __future__ import annotations

import itertools
import re
from typing import TYPE_CHECKING, TypeAlias

from studio.engine.model import HEAD

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import BlendState, DeltaAdapter
    from studio.engine.adapter_bank import Signature

LayerScales: TypeAlias = tuple[tuple[tuple[int, tuple[float, ...]], ...], ...]
"""For each layer the adapters heard in it, by number, each with the effective scales of its modules there."""

_LAYER = re.compile(r"blk\.(\d+)\.")


class HeardAdapters:
    """Tells the layer scales of blends of the attached adapters.

    An adapter has a number for as long as it stays attached, under one key and in one version: what comes in
    its place has another, so that layer scales are equal only where the deltas are.

    Parameters
    ----------
    layers
        How many layers the model has.
    """

    def __init__(self, layers: int) -> None:
        self._layers = layers
        self._unused = itertools.count()
        self._by_identity: dict[tuple[str, int, int], int] = {}
        self._modules: dict[str, tuple[int, list[list[str]]]] = {}

    @property
    def numbers(self) -> frozenset[int]:
        """The numbers of the adapters that are attached."""
        return frozenset(self._by_identity.values())

    def attach(self, adapters: Mapping[str, DeltaAdapter], signature: Signature) -> None:
        """Give exactly these adapters a number; their signature has one part for each, in the same order."""
        before = self._by_identity
        self._by_identity = {
            identity: before[identity] if identity in before else next(self._unused) for identity in signature
        }
        self._modules = {
            key: (number, self._by_layer(adapter))
            for (key, adapter), number in zip(adapters.items(), self._by_identity.values(), strict=True)
        }

    def scales_of(self, state: BlendState) -> LayerScales:
        """Return the layer scales of a blend whose keys are all attached."""
        heard: list[list[tuple[int, tuple[float, ...]]]] = [[] for _ in range(self._layers)]
        for channel in state.channels:
            number, by_layer = self._modules[channel.key]
            for layer, modules in enumerate(by_layer):
                scales = tuple(channel.scale_of(module) for module in modules)
                if any(scales):
                    heard[layer].append((number, scales))
        return tuple(tuple(sorted(adapters)) for adapters in heard)

    def _by_layer(self, adapter: DeltaAdapter) -> list[list[str]]:
        """Sort an adapter's modules by the first layer that hears them; the head is heard in none.

        What acts before the layers, on the embedding, is heard in the first; what is not known, too.
        """
        by_layer: list[list[str]] = [[] for _ in range(self._layers)]
        for module in adapter.modules:
            found = _LAYER.match(module)
            layer = int(found[1]) if found else 0
            if module != HEAD and layer < self._layers:
                by_layer[layer].append(module)
        return by_layer


def first_difference(one: LayerScales, other: LayerScales) -> int:
    """Return the first layer in which two blends differ; the number of layers where they do in none."""
    pairs = enumerate(zip(one, other, strict=True))
    return next((layer for layer, (mine, its) in pairs if mine != its), len(one))
