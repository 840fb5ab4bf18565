"""Rounds in which the sides take turns, so that a machine's changing mood meets all of them alike."""

from __future__ import annotations

import random
import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

Drawn = TypeVar("Drawn")

PAUSE = 0.05
"""Seconds between turns: threads of the one before spin for a while before they sleep."""

WARM_UP = 2


def interleave(
    rounds: int,
    draw: Callable[[], Drawn],
    works: Sequence[Callable[[Drawn], float]],
    warm_up: int = WARM_UP,
) -> list[list[float]]:
    """Let every work have its turn in every round, and return each one's figures.

    Parameters
    ----------
    rounds
        How many count.
    draw
        What the works of one round are given, drawn anew for each round.
    works
        Each measures itself.
    warm_up
        How many rounds go before that do not count; no more than count.
    """
    figures: list[list[float]] = [[] for _ in works]
    for number in range(-min(warm_up, rounds), rounds):
        drawn = draw()
        for work, its in zip(works, figures, strict=True):
            time.sleep(PAUSE)
            figure = work(drawn)
            if number >= 0:
                its.append(figure)
    return figures


def repeat(rounds: int, work: Callable[[int], object], warm_up: int = WARM_UP) -> list[float]:
    """Time `work(i)` for i from 0 on, after a few rounds that do not count: milliseconds."""
    return [milliseconds(lambda: work(number)) for number in range(-warm_up, rounds)][warm_up:]  # noqa: B023


def milliseconds(work: Callable[[], object]) -> float:
    """Run the work and return how long it took."""
    started = time.perf_counter()
    work()
    return (time.perf_counter() - started) * 1e3


class NewScales:
    """Scales that were never used before, so that no cache knows them."""

    def __init__(self) -> None:
        self._random = random.Random(0)

    def __call__(self, count: int) -> list[float]:
        """Return one for each of `count` adapters."""
        return [self._random.uniform(0.1, 0.9) for _ in range(count)]
