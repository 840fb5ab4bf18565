"""A sweep: 16 blends of three adapters over 32 tokens, all in one pass, over 16 passes of one blend each."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.sides import Side, open_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.run import Run

ADAPTERS = 3
BLENDS = 16
TOKENS = 32
ROUNDS = 7


def main(run: Run) -> None:
    """Report our one pass over our 16, then over llama.cpp's 16: a context of its has one blend."""
    with open_sides(run, ADAPTERS) as sides:
        tokens = sides.demo.tokens(TOKENS)

        def singly(side: Side) -> Callable[[Iterator[list[float]]], float]:
            return lambda new: sum(side.prompt(tokens, next(new)) for _ in range(BLENDS))

        def together(new: Iterator[list[float]]) -> float:
            return sides.ours.batch(tokens, [next(new) for _ in range(BLENDS)])

        new = iter(partial(NewScales(), ADAPTERS), [])  # each turn takes blends of its own from it
        works = [together, *(singly(side) for side in sides)]
        times = interleave(run.rounds or ROUNDS, lambda: new, works, warm_up=1)
        conditions = {"blends": BLENDS, "tokens": TOKENS, "adapters": ADAPTERS}
        run.report(Row("sweep", "ms", conditions, times[:2], against="ours one by one"))
        if sides.theirs is not None:
            pair = [times[0], times[2]]
            settings = sides.their_settings
            run.report(Row("sweep, all at once", "ms", conditions, pair, their_settings=settings))
