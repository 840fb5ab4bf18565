"""Where the controls of the mixer stand, and what is heard of them: small frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Gains:
    """How loud an adapter is in each module, beside its scale; what is not named has the gain 1.

    Attributes
    ----------
    by_module
        ``(GGUF weight name, gain)`` of every module whose gain is not 1, sorted by name: two equal settings
        are equal values, whichever way they were made.
    """

    by_module: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, gains: Mapping[str, float]) -> Gains:
        """Take gains by module name."""
        return cls(tuple(sorted((name, float(gain)) for name, gain in gains.items() if gain != 1)))

    @cached_property
    def _gains(self) -> dict[str, float]:
        return dict(self.by_module)

    def __getitem__(self, module: str) -> float:
        """Return the gain of a module."""
        return self._gains.get(module, 1.0)


EVEN = Gains()
"""The gain 1 everywhere."""


@dataclass(frozen=True)
class ChannelState:
    """One channel strip: the adapter's key on the stack and where its controls stand."""

    key: str
    scale: float = 1.0
    muted: bool = False
    soloed: bool = False
    gains: Gains = EVEN


@dataclass(frozen=True)
class MixerState:
    """Where every control of the mixer stands; what undo, presets and sessions store."""

    channels: tuple[ChannelState, ...] = ()
    master: float = 1.0

    def audible(self, channel: ChannelState) -> bool:
        """Say whether a channel is heard: soloed if any channel is, else not muted."""
        if any(other.soloed for other in self.channels):
            return channel.soloed
        return not channel.muted


@dataclass(frozen=True)
class BlendChannel:
    """One audible adapter of a blend: its key on the stack, its version, its scale times the master's."""

    key: str
    version: int
    scale: float
    gains: Gains = EVEN

    def scale_of(self, module: str) -> float:
        """Return what the adapter's delta on a module is multiplied by: scale times gain."""
        return self.scale * self.gains[module]


@dataclass(frozen=True)
class BlendState:
    """The audible part of a mixer: hashable, so it keys caches. Silent channels (scale 0) are left out."""

    channels: tuple[BlendChannel, ...] = ()


BASE_ALONE = BlendState()
"""The blend with no adapter in it: the base model as it is."""
