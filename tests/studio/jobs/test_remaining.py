from __future__ import annotations

import pytest

from studio.jobs.remaining import RemainingTime


def test_a_steady_pace_is_extrapolated() -> None:
    remaining = RemainingTime()
    for second in range(11):
        remaining.report(done=second, total=60, now=100.0 + second)
    assert remaining.seconds(now=110.0) == pytest.approx(50.0)


def test_it_counts_down_between_reports() -> None:
    remaining = RemainingTime()
    remaining.report(0, 10, now=0.0)
    remaining.report(5, 10, now=5.0)
    assert remaining.seconds(7.0) == pytest.approx(3.0)
    assert remaining.seconds(99.0) == 0.0


def test_one_slow_step_does_not_make_it_jump() -> None:
    remaining = RemainingTime()
    for second in range(31):
        remaining.report(second, 60, now=float(second))
    before = remaining.seconds(30.0)
    remaining.report(31, 60, now=40.0)  # a step of ten seconds
    after = remaining.seconds(40.0)
    assert before is not None and after is not None
    assert abs(after - before) < 10.0


@pytest.mark.parametrize(("done", "total"), [(0, 0), (5, 0)])
def test_without_a_total_nothing_can_be_told(done: int, total: int) -> None:
    remaining = RemainingTime()
    remaining.report(0, total, 0.0)
    remaining.report(done, total, 10.0)
    assert remaining.seconds(10.0) is None


def test_a_job_that_just_began_has_no_estimate() -> None:
    remaining = RemainingTime()
    remaining.report(0, 10, 0.0)
    remaining.report(1, 10, 0.1)
    assert remaining.seconds(0.1) is None


def test_another_phase_begins_anew() -> None:
    remaining = RemainingTime()
    remaining.report(0, 10, 0.0)
    remaining.report(9, 10, 9.0)
    remaining.report(0, 100, 10.0)
    assert remaining.seconds(10.0) is None
    remaining.report(10, 100, 11.0)
    assert remaining.seconds(11.0) == pytest.approx(9.0)
