"""Speed and remaining time."""

from __future__ import annotations

from studio.learning.pace import LAST_STEPS, Pace


def test_the_speed_is_that_of_the_last_steps() -> None:
    pace = Pace(now=0.0)
    assert pace.tokens_per_second == 0.0
    pace.step(tokens=1000, seconds=100.0)
    for _ in range(LAST_STEPS):
        pace.step(tokens=100, seconds=2.0)
    assert pace.tokens_per_second == 50.0


def test_what_lies_between_the_steps_counts_for_the_time_that_is_left() -> None:
    pace = Pace(now=10.0)
    pace.step(tokens=8, seconds=1.0)
    pace.step(tokens=8, seconds=1.0)
    assert pace.seconds_left(steps=3, now=16.0) == 9.0
