"""How the loss changes with every scale and gain of a blend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.lora.gains import layer_count, place_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import ChannelState, FloatArray, Loss, MixerState


@dataclass(frozen=True)
class Sensitivity:
    """The slopes of the mean loss, in nats a token: below 0 where turning up helps.

    Attributes
    ----------
    loss
        Under the blend.
    state
        Where the mixer's controls stood.
    effective
        By audible channel and module, the slope over what the delta is multiplied by there: master times
        scale times gain.
    """

    loss: Loss
    state: MixerState
    effective: Mapping[str, Mapping[str, float]]

    def scale(self, key: str) -> float:
        """Return the slope over a channel's scale."""
        return sum(self.by_module(key).values())

    def by_module(self, key: str) -> dict[str, float]:
        """Return the slope over a channel's scale by the modules that it comes from; they add up to it."""
        channel, master = self._channel(key), self.state.master
        slopes = self.effective[key]
        return {module: master * channel.gains[module] * slope for module, slope in slopes.items()}

    def by_gain(self, key: str) -> dict[str, float]:
        """Return the slope over a channel's gain in each module."""
        scale = self.state.master * self._channel(key).scale
        return {module: scale * slope for module, slope in self.effective[key].items()}

    def by_layer(self, key: str) -> FloatArray:
        """Return the slope over a factor on a channel's gains in each layer, ``[layers]``.

        Weights outside the layers go with their neighbours, as they do in the gains.
        """
        gains = self._channel(key).gains
        layers = layer_count(module for modules in self.effective.values() for module in modules)
        found = np.zeros(max(layers, 1), dtype=np.float32)
        for module, slope in self.by_gain(key).items():
            found[place_of(module, layers)] += gains[module] * slope
        return found

    def whole(self) -> dict[str, float]:
        """Return by module the slope over a factor on all that is heard there."""
        found: dict[str, float] = {}
        for key in self.effective:
            gains = self._channel(key).gains
            for module, slope in self.by_gain(key).items():
                found[module] = found.get(module, 0.0) + gains[module] * slope
        return found

    def _channel(self, key: str) -> ChannelState:
        return next(channel for channel in self.state.channels if channel.key == key)
