"""How the learning rate goes over a run: up at first, then level or down."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Schedule: TypeAlias = Literal["cosine", "linear", "constant"]
"""What the rate does after warming up: half a cosine to zero, a straight line to zero, or nothing."""

SCHEDULES: tuple[Schedule, ...] = ("cosine", "linear", "constant")


def rate_at(step: int, steps: int, schedule: Schedule, warm_up: int = 0) -> float:
    """Return which part of the full rate a step takes.

    The cosine: Loshchilov and Hutter 2017, https://arxiv.org/abs/1608.03983, equation 5, without restarts.

    Parameters
    ----------
    step
        From 0 on, below `steps`.
    steps
        Of the whole run.
    schedule
        Its shape after warming up.
    warm_up
        Over how many steps the rate rises on a line; the first takes one part of them, the next has it all.
    """
    if step < warm_up:
        return (step + 1) / (warm_up + 1)
    if schedule == "constant":
        return 1.0
    done = (step - warm_up) / max(1, steps - warm_up)
    return 1 - done if schedule == "linear" else (1 + math.cos(math.pi * done)) / 2
