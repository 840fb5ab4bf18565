"""Finding a blend on examples, and how the loss lies around it, as jobs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from studio.contracts import Progress

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    import numpy as np

    from studio.contracts import DeltaAdapter, Example, LearningEngine, Loss, MixerState, Work


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
    steps: int = field(
        default=40, metadata={"help": "How many blends to try at most.", "range": (1, 10_000)}
    )
    seed: int = field(
        default=0, metadata={"help": "Seed of what lorahub draws.", "range": (0, 2**31 - 1)}
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


def search_blend(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    start: MixerState,
    options: SearchOptions,
    *,
    keys: Collection[str] | None = None,
) -> Work:
    """Find the scales, and the gains by layer if asked, with the lowest loss. Return a `FoundBlend`."""
    yield SearchProgress(0, options.steps)
    raise NotImplementedError


def measure_sensitivity(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    state: MixerState,
) -> Work:
    """Measure how the loss changes with every scale and gain. Return a `Sensitivity`."""
    yield Progress(0, 1)
    raise NotImplementedError


def scan_landscape(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    state: MixerState,
    keys: tuple[str, str],
    spans: tuple[tuple[float, float], tuple[float, float]],
    points: int,
) -> Work:
    """Measure the loss over a grid of two channels' scales, points by points. Return a `Landscape`."""
    yield Progress(0, points * points)
    raise NotImplementedError


def measure_losses(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    states: Sequence[MixerState],
) -> Work:
    """Measure the loss under each of several mixers. Return a list of `Loss`."""
    yield Progress(0, 1)
    raise NotImplementedError
