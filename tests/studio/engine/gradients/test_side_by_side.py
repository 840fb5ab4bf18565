"""Jobs on threads of their own, and what they leave for each other."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from studio.engine.blas_threads import blas_threads
from studio.engine.gradients.exchange import Exchange
from studio.engine.gradients.side_by_side import side_by_side
from studio.errors import CancelledError, EngineError


def nothing() -> None:
    """Nobody waits."""


def test_each_job_has_a_thread_and_the_results_keep_their_order() -> None:
    meeting = threading.Barrier(3, timeout=10)

    def job(number: int) -> int:
        meeting.wait()  # all three are under way
        return number

    assert side_by_side([partial(job, number) for number in range(3)], nothing) == [0, 1, 2]
    assert side_by_side([threading.current_thread], nothing) == [threading.current_thread()]


def test_what_failed_first_is_told_not_who_waited_for_it() -> None:
    exchange = Exchange()

    def fail() -> None:
        raise EngineError("too much")

    def wait() -> None:
        exchange.take(("never",))

    for jobs in ([wait, fail], [fail, wait], [wait, fail, wait]):
        exchange = Exchange()
        with pytest.raises(EngineError, match="too much"):
            side_by_side(jobs, exchange.give_up)
    with pytest.raises(CancelledError):
        exchange.take(("never",))


def test_what_is_left_waits_for_its_taker() -> None:
    exchange = Exchange()
    exchange.leave(("a", 1), "one")
    found = side_by_side(
        [lambda: exchange.take(("b",)), lambda: exchange.leave(("b",), exchange.take(("a", 1)))], nothing
    )
    assert found == ["one", None]


def test_the_number_of_threads_of_blas_is_known_while_it_keeps_to_one() -> None:
    outside = blas_threads()
    assert side_by_side([blas_threads, blas_threads], nothing) == [outside, outside]
    assert blas_threads() == outside >= 1
