"""What a run of training will be, told before it starts: what it reads, how it sees it, and what it takes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, TypeAlias

from studio.contracts import Example, LowRankAdapter, Progress
from studio.engine.memory import available_memory
from studio.jobs.training import prepare_training
from studio.learning.preview import preview

if TYPE_CHECKING:
    from collections.abc import Generator

    from studio.contracts import BaseModel, LearningEngine, TrainingRequest
    from studio.engine.tokenizer import Tokenizer
    from studio.jobs.training import TrainingPlan

Pieces: TypeAlias = "tuple[tuple[str, bool], ...]"
"""An example as text, piece by piece, and whether each is learnt."""

SHOWN = 50
"""How many examples are shown at most."""

SHOWN_TOKENS = 2000
"""How many tokens of each."""


@dataclass(frozen=True, eq=False)
class TrainingData:
    """What was read for a run.

    Attributes
    ----------
    request
        What its trainer would get.
    seen
        The first examples, as the model sees them.
    """

    request: TrainingRequest
    seen: tuple[Pieces, ...]

    @property
    def summary(self) -> str:
        """How much there is, in one line."""
        learnt, measured = self.request.examples, self.request.validation
        tokens = sum(len(example.tokens) for example in learnt)
        predicted = sum(1 for example in learnt for weight in example.weights[1:] if weight)
        what = "example" if len(learnt) == 1 else "examples"
        text = f"{len(learnt):,} {what}, {tokens:,} tokens, {predicted:,} of them learnt"
        return f"{text}; {len(measured):,} to measure on" if measured else text


@dataclass(frozen=True)
class MemoryEstimate:
    """What a run takes.

    Attributes
    ----------
    needed
        Bytes, beside the weights of the base.
    free
        Bytes that the machine has to give; None where nobody can tell.
    """

    needed: int
    free: int | None

    @property
    def fits(self) -> bool:
        """Whether it fits, as far as is known."""
        return self.free is None or self.needed <= self.free


def read_training_data(
    plan: TrainingPlan, base: BaseModel, tokenizer: Tokenizer, engine: LearningEngine
) -> Generator[Progress, None, TrainingData]:
    """Read what a plan names. Raises as `prepare_training` does."""
    yield Progress(0, 0, f"Reading {plan.data.name}")
    request = prepare_training(plan, base, tokenizer, engine)
    yield Progress(0, 0, "Looking at the first examples")
    seen = tuple(_seen(example, tokenizer) for example in request.examples[:SHOWN])
    return TrainingData(request, seen)


def _seen(example: Example, tokenizer: Tokenizer) -> Pieces:
    """Return the beginning of an example as the model sees it."""
    beginning = Example(example.tokens[:SHOWN_TOKENS], example.weights[:SHOWN_TOKENS])
    pieces = tuple((token.text, token.predicted) for token in preview(beginning, tokenizer))
    return pieces if len(example.tokens) <= SHOWN_TOKENS else (*pieces, (" …", False))


def estimate_memory(
    plan: TrainingPlan, data: TrainingData, engine: LearningEngine
) -> Generator[Progress, None, MemoryEstimate]:
    """Ask a plan's trainer what a run over data that was read would take.

    Raises
    ------
    StudioError
        The options are not fit to train with.
    """
    yield Progress(0, 1, "Estimating the memory")
    request = replace(
        data.request,
        engine=engine,
        optimisation=plan.optimisation,
        start=plan.start if isinstance(plan.start, LowRankAdapter) else None,
        beside=plan.beside or {},
        state=plan.state,
    )
    return MemoryEstimate(plan.trainer.memory(request, plan.options), available_memory())
