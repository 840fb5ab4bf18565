"""Losses and slopes over many examples, a part at a time: long work that tells how far it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.contracts import Gradients, Loss
from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from studio.contracts import BlendState, Example, LearningEngine, Progress

PART_TOKENS = 1024
"""How many tokens go to the engine between two reports: a second or two of work for a small model."""


def in_parts(examples: Sequence[Example], blends: int = 1) -> list[list[Example]]:
    """Split examples into parts of about `PART_TOKENS` under so many blends, alike lengths together.

    Raises
    ------
    EngineError
        There are none.
    """
    if not examples:
        raise EngineError("there are no examples to measure on", remedy="Give a text, or prompts and answers")
    parts: list[list[Example]] = [[]]
    tokens = 0
    for example in sorted(examples, key=lambda one: len(one.tokens)):
        if parts[-1] and tokens + len(example.tokens) * blends > PART_TOKENS:
            parts.append([])
            tokens = 0
        parts[-1].append(example)
        tokens += len(example.tokens) * blends
    return parts


def losses_of(
    engine: LearningEngine, examples: Sequence[Example], blends: Sequence[BlendState], progress: Progress
) -> Generator[Progress, None, list[Loss]]:
    """Return the loss of all examples under each blend, many at once; before each part yield the progress."""
    totals = [Loss(0.0, 0.0)] * len(blends)
    for part in in_parts(examples, len(blends)):
        yield progress
        totals = [before + more for before, more in zip(totals, engine.losses(part, blends), strict=True)]
    return totals


def slopes_of(
    engine: LearningEngine, examples: Sequence[Example], blend: BlendState, progress: Progress
) -> Generator[Progress, None, Gradients]:
    """Return the loss of all examples with the gradients of its scales; yield as `losses_of` does."""
    loss = Loss(0.0, 0.0)
    scales: dict[str, dict[str, float]] = {channel.key: {} for channel in blend.channels}
    for part in in_parts(examples):
        yield progress
        found = engine.gradients(part, blend)
        loss += found.loss
        for key, by_module in found.scales.items():
            for module, slope in by_module.items():
                scales[key][module] = scales[key].get(module, 0.0) + slope
    return Gradients(loss, scales)
