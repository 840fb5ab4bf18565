"""The learning rate over a run."""

from __future__ import annotations

import math

import pytest

from studio.learning.schedules import SCHEDULES, rate_at


def test_a_cosine_falls_from_all_to_nothing() -> None:
    rates = [rate_at(step, 100, "cosine") for step in range(100)]
    assert rates[0] == 1.0
    assert rates[50] == pytest.approx(0.5)
    assert rates[25] == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert 0 < rates[99] < 0.001
    assert rates == sorted(rates, reverse=True)


def test_a_line_falls_evenly() -> None:
    assert [rate_at(step, 4, "linear") for step in range(4)] == [1.0, 0.75, 0.5, 0.25]


def test_a_constant_stays() -> None:
    assert {rate_at(step, 9, "constant") for step in range(9)} == {1.0}


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_warming_up_rises_to_the_full_rate(schedule: str) -> None:
    rates = [rate_at(step, 10, schedule, warm_up=3) for step in range(10)]  # type: ignore[arg-type]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]


def test_warming_up_may_take_the_whole_run() -> None:
    assert [rate_at(step, 3, "cosine", warm_up=3) for step in range(3)] == [0.25, 0.5, 0.75]
