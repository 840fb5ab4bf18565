"""Training as plugins offer it: what a trainer gets, what it tells on the way, and what it returns."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from studio.contracts.mixer import BASE_ALONE, BlendState
from studio.contracts.plugins import Extension
from studio.contracts.work import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts.adapters import DeltaAdapter, LowRankAdapter
    from studio.contracts.learning import Example, LearningEngine
    from studio.contracts.models import BaseModel, FloatArray
    from studio.contracts.work import Work


@dataclass(frozen=True)
class TrainingRequest:
    """What a trainer gets.

    Attributes
    ----------
    base
        The base.
    engine
        An engine for this run alone, with the base open.
    examples
        What is learnt, in its order before shuffling.
    validation
        What is only measured; may be empty.
    name
        What to call the adapter.
    start
        An adapter to begin with; None begins with one that changes nothing.
    beside
        Adapters that are heard while the new one learns, by key; they stay as they are.
    state
        How loud those are.
    optimisation
        How the factors follow their gradients; None leaves it to the trainer.
    prompt
        Tokens that samples go on from; empty makes none.
    checkpoints
        A folder to keep the run in; None keeps nothing.
    resume
        Whether to go on from there.
    """

    base: BaseModel
    engine: LearningEngine
    examples: Sequence[Example]
    validation: Sequence[Example] = ()
    name: str = "trained"
    start: LowRankAdapter | None = None
    beside: Mapping[str, DeltaAdapter] = field(default_factory=dict)
    state: BlendState = BASE_ALONE
    optimisation: Optimisation | None = None
    prompt: tuple[int, ...] = ()
    checkpoints: Path | None = None
    resume: bool = False


@dataclass(frozen=True)
class TrainingProgress(Progress):
    """How far a run is: `done` of `total` steps.

    Attributes
    ----------
    loss
        Of the examples of this step, in nats a token.
    validation
        The same of the validation examples, where it was measured after this step; its exponential is their
        perplexity.
    rate
        The learning rate of this step.
    gradient_norm
        The norm of all gradients together, before clipping.
    tokens_per_second
        Tokens read, over the last steps.
    seconds_left
        An estimate.
    adapter
        As it stands after this step.
    best
        As it was when validation found it best; until that was measured it is `adapter`.
    best_step
        After which step that was; 0 is before the first.
    sample
        What the model wrote after this step, where that was asked for.
    """

    loss: float = 0.0
    validation: float | None = None
    rate: float = 0.0
    gradient_norm: float = 0.0
    tokens_per_second: float = 0.0
    seconds_left: float = 0.0
    adapter: DeltaAdapter | None = None
    best: DeltaAdapter | None = None
    best_step: int = 0
    sample: str | None = None


@dataclass(frozen=True)
class Trained:
    """What a run returns.

    Attributes
    ----------
    adapter
        As it was at its best: with the lowest validation loss, or after the last step where there was none.
    steps
        How many were made.
    best_step
        After which of them the adapter is from.
    loss
        The mean of the last steps' losses.
    validation
        The validation loss at its best.
    before
        The validation loss before the first step.
    """

    adapter: DeltaAdapter
    steps: int
    best_step: int
    loss: float
    validation: float | None
    before: float | None = None


class Trainer(Extension, Protocol):
    """Trains adapters in one way."""

    def memory(self, request: TrainingRequest, options: Any) -> int:
        """Estimate how many bytes a run takes beside the engine's weights, without starting it."""

    def train(self, request: TrainingRequest, options: Any) -> Work:
        """Train: yield a `TrainingProgress` after each step, and return a `Trained`.

        Other `Progress` may come between. Closing the generator early ends the run; the `TrainingProgress`
        that it yielded last holds the adapter, and the best.

        Raises
        ------
        StudioError
            The options or the examples are not fit to train with, or the memory does not suffice.
        """


class OptimiserRun(Protocol):
    """An optimiser with the state of one run."""

    def update(self, name: str, value: FloatArray, gradient: FloatArray, rate: float) -> FloatArray:
        """Return the next value of a parameter; called once a step for each."""

    def state(self) -> Mapping[str, FloatArray]:
        """Return all that a checkpoint has to keep."""

    def restore(self, state: Mapping[str, FloatArray]) -> None:
        """Go on from what `state` returned."""


class Optimiser(Extension, Protocol):
    """A rule by which parameters follow their gradients."""

    def start(self, options: Any) -> OptimiserRun:
        """Begin a run."""


@dataclass(frozen=True)
class Optimisation:
    """An optimiser with its options."""

    optimiser: Optimiser
    options: Any
