"""What a search for a blend gets, tells and returns: plain values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from studio.contracts import Gains, Progress
from studio.errors import StudioError
from studio.lora.stack import LARGEST_SCALE

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from studio.contracts import Loss, MixerState


@dataclass(frozen=True)
class SearchOptions:
    """How a blend is searched for; plain values, as a form or the command line gives them."""

    method: Literal["gradient", "lorahub"] = field(
        default="gradient",
        metadata={
            "help": "gradient follows the slope; lorahub tries blends (it takes the extra nevergrad).",
            "choices": ("gradient", "lorahub"),
        },
    )
    gains: bool = field(default=False, metadata={"help": "Find a gain for every layer, too."})
    l1: float = field(
        default=0.0,
        metadata={
            "help": "How many nats a token the mean size of the scales costs: it silences what helps little.",
            "range": (0.0, 1e3),
        },
    )
    lowest: float = field(default=-1.5, metadata={"help": "The lowest scale.", "range": (-1e3, 1e3)})
    highest: float = field(default=1.5, metadata={"help": "The highest scale.", "range": (-1e3, 1e3)})
    steps: int = field(default=40, metadata={"help": "How many blends to try at most.", "range": (1, 10_000)})
    seed: int = field(default=0, metadata={"help": "Seed of what lorahub draws.", "range": (0, 2**31 - 1)})
    at_once: int = field(
        default=1,
        metadata={
            "help": "How many blends lorahub measures side by side; above 1 it evolves them in generations.",
            "range": (1, 256),
        },
    )

    def check(self) -> None:
        """Raise `StudioError` for values that no search can be made with."""
        check_bounds(self.lowest, self.highest, where="bounds")
        for name, value, least in (
            ("l1", self.l1, 0),
            ("steps", self.steps, 1),
            ("at_once", self.at_once, 1),
        ):
            if not least <= value < np.inf:
                raise StudioError(
                    f"{value:g} does not do for a search", where=name, remedy=f"Give {least} or more"
                )


@dataclass(frozen=True)
class FoundBlend:
    """What a search found.

    Attributes
    ----------
    state
        The mixer at the best blend; muted channels, the master and what was not searched are as before.
    before
        The loss where the mixer stood at first.
    after
        The loss at `state`.
    history
        The mean loss of every blend that was tried, in nats a token.
    """

    state: MixerState
    before: Loss
    after: Loss
    history: tuple[float, ...] = ()


@dataclass(frozen=True)
class SearchProgress(Progress):
    """How far a search is: `done` of at most `total` blends were tried.

    Attributes
    ----------
    best
        What would be returned now; None before the first blend was tried. Who cancels a search takes it
        from the last progress.
    """

    best: FoundBlend | None = None


@dataclass(frozen=True)
class Landscape:
    """The mean loss over the scales of two channels.

    Attributes
    ----------
    keys
        The channels of x and of y.
    x, y
        Their scales, float64 ``[X]`` and ``[Y]``, ascending.
    losses
        In nats a token, float64 ``[Y, X]``.
    point
        Where the two stood, x and y.
    loss
        The mean loss there.
    """

    keys: tuple[str, str]
    x: np.ndarray[Any, np.dtype[np.float64]]
    y: np.ndarray[Any, np.dtype[np.float64]]
    losses: np.ndarray[Any, np.dtype[np.float64]]
    point: tuple[float, float]
    loss: float


def check_bounds(low: float, high: float, where: str) -> None:
    """Raise `StudioError` for scales with nothing between them."""
    if not -LARGEST_SCALE <= low < high <= LARGEST_SCALE:
        raise StudioError(
            f"there is nothing between {low:g} and {high:g}", where=where, remedy="Give the lower one first"
        )


def rounded(state: MixerState, digits: int = 4) -> MixerState:
    """Round scales and gains to what people read and type."""
    return replace(
        state,
        channels=tuple(
            replace(
                channel,
                scale=round(channel.scale, digits),
                gains=Gains.of({module: round(gain, digits) for module, gain in channel.gains.by_module}),
            )
            for channel in state.channels
        ),
    )


def plain_blends(state: MixerState) -> dict[str, MixerState]:
    """Return the blends that need no search, by name: none, each audible channel alone, all alike."""
    audible = [channel.key for channel in state.channels if state.audible(channel)]
    alike = dict.fromkeys(audible, 1 / len(audible)) if audible else {}
    return {
        "the base alone": _at(state, audible, {}),
        **{f"{key} alone": _at(state, audible, {key: 1.0}) for key in audible},
        f"all at 1/{len(audible)}": _at(state, audible, alike),
        "all at 1": _at(state, audible, dict.fromkeys(audible, 1.0)),
    }


def _at(state: MixerState, audible: Collection[str], scales: Mapping[str, float]) -> MixerState:
    """Put the audible channels at scales, 0 where none is given, and the master at 1."""
    channels = (
        replace(channel, scale=scales.get(channel.key, 0.0)) if channel.key in audible else channel
        for channel in state.channels
    )
    return replace(state, channels=tuple(channels), master=1.0)
