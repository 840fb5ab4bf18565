"""What more adapters cost: new scales to new logits with eight of them, over the same with one; 64 tokens."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.demo import PROMPT_LENGTH
from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.sides import Ours, Side, open_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.run import Run

MANY = 8
ROUNDS = 15


def main(run: Run) -> None:
    """Report our time with eight over ours with one, then by how much either side grows."""
    new_scales = NewScales()
    with open_sides(run, MANY) as sides:
        tokens = sides.demo.tokens()

        def timed(side: Side, count: int) -> Callable[[Sequence[float]], float]:
            return lambda scales: side.prompt(tokens, scales[:count])

        alone = Ours(sides.demo.base, sides.demo.adapters(1))  # so that nothing is attached between turns
        works = [timed(sides.ours, MANY), timed(alone, 1)]
        if sides.theirs is not None:
            works += [timed(sides.theirs, MANY), timed(sides.theirs, 1)]
        times = interleave(run.rounds or ROUNDS, partial(new_scales, MANY), works)
        alone.engine.close()

        conditions = {"adapters": MANY, "tokens": PROMPT_LENGTH}
        run.report(Row("stack-size", "ms", conditions, times[:2], against="ours with one"))
        if sides.theirs is not None:
            growth = [np.divide(times[side], times[side + 1]).tolist() for side in (0, 2)]
            settings = sides.their_settings
            run.report(Row("stack-size, growth", "x", conditions, growth, their_settings=settings))
