"""What a search turns: the scales of some channels, or their loudness by layer, as one vector."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from studio.contracts import BlendChannel, BlendState, ChannelState, Gains, LowRankAdapter
from studio.errors import MismatchError, StudioError
from studio.lora.gains import layer_count, place_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from studio.contracts import DeltaAdapter, Gradients, MixerState

Vector: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
"""A NumPy array of float64 with one dimension."""


@dataclass(frozen=True)
class Parameter:
    """One number of the vector.

    Attributes
    ----------
    key
        The channel.
    modules
        Whose delta it multiplies, each beside its gain as it stood.
    share
        Which part of the channel this is, for a penalty: 1, or one over its layers.
    """

    key: str
    modules: tuple[str, ...]
    share: float


class BlendParameters:
    """The loudness of channels as a vector: of each as a whole, or by layer.

    The delta of a module is multiplied by master * parameter * gain, with the gain as it stood at first. A
    parameter is thus a channel's scale; by layer it is the scale times what the layer's gain becomes. That is
    one number where a scale and a gain would be two that say the same.

    Parameters
    ----------
    adapters
        By key.
    state
        Where the controls stand. What is not turned stays as it is here.
    keys
        The channels that are turned; all must be audible.
    by_layer
        Whether each layer has a parameter of its own. A weight outside the layers goes with its neighbour.

    Attributes
    ----------
    parameters
        What each number of a vector is, P of them.
    start
        Where they stand at first, ``[P]``.
    shares
        The share of each in its channel, ``[P]``.
    """

    def __init__(
        self,
        adapters: Mapping[str, DeltaAdapter],
        state: MixerState,
        keys: Collection[str],
        *,
        by_layer: bool = False,
    ) -> None:
        self._adapters = adapters
        self._state = state
        self.parameters: list[Parameter] = []
        layers = layer_count(module for adapter in adapters.values() for module in adapter.modules)
        start: list[float] = []
        for channel in state.channels:
            if channel.key in keys:
                groups = _groups(channel, adapters[channel.key].modules, layers if by_layer else 0)
                for modules in groups:
                    self.parameters.append(Parameter(channel.key, modules, 1 / len(groups)))
                    start.append(channel.scale)
        self.start: Vector = np.array(start, dtype=np.float64)
        self.shares: Vector = np.array([one.share for one in self.parameters], dtype=np.float64)

    def state(self, point: Vector) -> MixerState:
        """Return the mixer with the controls at a vector.

        By layer, the scale becomes the mean loudness, so that the gains found average to 1 in size.
        """
        channels = {channel.key: channel for channel in self._state.channels}
        turned: dict[str, list[tuple[tuple[str, ...], float]]] = {}
        for parameter, value in zip(self.parameters, point, strict=True):
            turned.setdefault(parameter.key, []).append((parameter.modules, float(value)))
        for key, groups in turned.items():
            channels[key] = _turned(channels[key], groups)
        return replace(self._state, channels=tuple(channels.values()))

    def blend(self, point: Vector) -> BlendState:
        """Return what is heard at a vector."""
        return heard_blend(self._adapters, self.state(point))

    def gradient(self, gradients: Gradients) -> Vector:
        """Return the gradient of the mean loss with respect to the vector, in nats a token, ``[P]``."""
        gains = {channel.key: channel.gains for channel in self._state.channels}
        factor = self._state.master / gradients.loss.weight
        return np.array(
            [
                factor
                * sum(
                    gradients.scales[one.key].get(module, 0.0) * gains[one.key][module]
                    for module in one.modules
                )
                for one in self.parameters
            ],
            dtype=np.float64,
        )


def heard_blend(adapters: Mapping[str, DeltaAdapter], state: MixerState) -> BlendState:
    """Return all audible channels, those at scale 0 too: the loss has a slope there as anywhere else."""
    return BlendState(
        tuple(
            BlendChannel(
                channel.key, adapters[channel.key].version, state.master * channel.scale, channel.gains
            )
            for channel in state.channels
            if state.audible(channel)
        )
    )


def audible_keys(state: MixerState, keys: Collection[str] | None = None) -> tuple[str, ...]:
    """Return the channels whose scales are heard, all or those chosen.

    Raises
    ------
    StudioError
        There are none, or one that was chosen is not heard.
    """
    if not state.channels:
        raise StudioError("there are no adapters to blend", remedy="Add one")
    audible = tuple(channel.key for channel in state.channels if state.audible(channel))
    if not audible or state.master == 0:
        raise StudioError("no adapter is audible", remedy="Unmute one, and raise the master")
    if keys is None:
        return audible
    for key in keys:
        if key not in audible:
            raise StudioError("the channel is not audible", where=key, remedy="Add it, or unmute it")
    if not keys:
        raise StudioError("no channel is chosen", remedy="Choose one or more")
    return tuple(keys)


def check_factors(adapters: Mapping[str, DeltaAdapter], blend: BlendState) -> None:
    """Raise `MismatchError` for a blend with an adapter that gradients cannot pass through."""
    for channel in blend.channels:
        if not isinstance(adapters[channel.key], LowRankAdapter):
            raise MismatchError(
                "it shows no factors, so that no gradient passes through it",
                where=channel.key,
                remedy="Mute it, or search by lorahub",
            )


def _groups(channel: ChannelState, modules: Sequence[str], layers: int) -> list[tuple[str, ...]]:
    """Return the modules that are heard, together or by layer."""
    heard = [module for module in modules if channel.gains[module]]
    if not layers:
        return [tuple(heard)]
    by_layer: dict[int, list[str]] = {}
    for module in heard:
        by_layer.setdefault(place_of(module, layers), []).append(module)
    return [tuple(by_layer[layer]) for layer in sorted(by_layer)] or [()]


def _turned(channel: ChannelState, groups: Sequence[tuple[tuple[str, ...], float]]) -> ChannelState:
    if len(groups) == 1:
        return replace(channel, scale=groups[0][1])
    values = np.array([value for _, value in groups])
    scale = float(np.copysign(np.abs(values).mean(), values.sum()))
    if scale == 0:
        return replace(channel, scale=0.0)
    gains = dict(channel.gains.by_module)
    for modules, value in groups:
        for module in modules:
            gains[module] = channel.gains[module] * value / scale
    return replace(channel, scale=scale, gains=Gains.of(gains))
