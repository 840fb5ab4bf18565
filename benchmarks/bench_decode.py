"""Decoding: tokens a second after a prompt of 64, with 3, 0 and 8 adapters, compiled kernels loaded."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.demo import PROMPT_LENGTH
from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.sides import open_sides

if TYPE_CHECKING:
    from benchmarks.run import Run

COUNTS = (3, 0, 8)
NEW_TOKENS = 32
ROUNDS = 9


def main(run: Run) -> None:
    """Report a row for each count."""
    new_scales = NewScales()
    with open_sides(run, max(COUNTS)) as sides:
        sides.ours.engine.prepare()
        works = [partial(side.decode, sides.demo.tokens(), NEW_TOKENS) for side in sides]
        for count in COUNTS:
            speeds = interleave(run.rounds or ROUNDS, partial(new_scales, count), works)
            conditions = {"adapters": count, "tokens": PROMPT_LENGTH, "new tokens": NEW_TOKENS}
            run.report(Row("decode", "tokens/s", conditions, speeds, their_settings=sides.their_settings))
