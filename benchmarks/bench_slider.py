"""New scales to new logits: every scale changed, from the first layer on, 64 tokens, 3 and 8 adapters."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.demo import PROMPT_LENGTH
from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.sides import open_sides

if TYPE_CHECKING:
    from benchmarks.run import Run

COUNTS = (3, 8)
ROUNDS = 15


def main(run: Run) -> None:
    """Report a row for each count."""
    new_scales = NewScales()
    with open_sides(run, max(COUNTS)) as sides:
        works = [partial(side.prompt, sides.demo.tokens()) for side in sides]
        for count in COUNTS:
            times = interleave(run.rounds or ROUNDS, partial(new_scales, count), works)
            conditions = {"adapters": count, "tokens": PROMPT_LENGTH}
            run.report(Row("slider", "ms", conditions, times, their_settings=sides.their_settings))
