"""Prompts of 16 to 256 tokens to their last logits, three adapters, every scale new."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.sides import open_sides

if TYPE_CHECKING:
    from benchmarks.run import Run

ADAPTERS = 3
LENGTHS = (64, 16, 32, 128, 256)
ROUNDS = 9


def main(run: Run) -> None:
    """Report a row for each length."""
    new_scales = NewScales()
    with open_sides(run, ADAPTERS) as sides:
        for length in LENGTHS:
            works = [partial(side.prompt, sides.demo.tokens(length)) for side in sides]
            times = interleave(run.rounds or ROUNDS, partial(new_scales, ADAPTERS), works)
            conditions = {"tokens": length, "adapters": ADAPTERS}
            run.report(Row("prefill", "ms", conditions, times, their_settings=sides.their_settings))
