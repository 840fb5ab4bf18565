"""Wall-clock times of repeated work, and how they are printed."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Times:
    """Milliseconds of each repetition."""

    milliseconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return float(np.median(self.milliseconds))

    @property
    def p95(self) -> float:
        """95 of 100 are at most this."""
        return float(np.percentile(self.milliseconds, 95))

    def __str__(self) -> str:
        """Give both in milliseconds."""
        return f"median {self.median:8.2f} ms   p95 {self.p95:8.2f} ms   ({len(self.milliseconds)} times)"


def repeat(work: Callable[[int], Any], times: int, warm_up: int = 2) -> Times:
    """Time `work(i)` for i from 0 on, after a few repetitions that do not count."""
    taken = []
    for index in range(-warm_up, times):
        started = time.perf_counter()
        work(index)
        if index >= 0:
            taken.append((time.perf_counter() - started) * 1e3)
    return Times(tuple(taken))
