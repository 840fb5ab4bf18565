"""Tasks on worker threads: results in order, a few ahead, and given up at once."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from studio.contracts import Cancelled
from studio.errors import CancelledError
from studio.jobs.parallel import AHEAD, Task, in_parallel


def task(number: int, seconds: float = 0.0) -> Task[int]:
    def run(cancelled: Cancelled) -> int:
        time.sleep(seconds)
        return number

    return run


def test_results_come_in_order() -> None:
    tasks = [task(number, 0.02 * (number % 3)) for number in range(20)]
    assert [found for found in in_parallel(tasks, workers=3) if found is not None] == list(range(20))


def test_only_a_few_are_taken_ahead() -> None:
    taken: list[int] = []

    def source() -> Iterator[Task[int]]:
        for number in range(100):
            taken.append(number)
            yield task(number)

    results = in_parallel(source(), workers=2)
    while next(results) is None:
        pass
    assert len(taken) <= 2 * AHEAD + 1
    results.close()
    assert len(taken) <= 2 * AHEAD + 1


def test_closing_stops_a_long_task_that_asks() -> None:
    stopped = threading.Event()

    def long(cancelled: Cancelled) -> int:
        while not cancelled():
            time.sleep(0.01)
        stopped.set()
        raise CancelledError

    results = in_parallel([long], workers=1)
    assert next(results) is None  # meanwhile the caller can think
    results.close()
    assert stopped.is_set()


@pytest.mark.parametrize("error", [ValueError, TimeoutError])
def test_what_a_task_raises_is_raised(error: type[Exception]) -> None:
    def broken(cancelled: Cancelled) -> int:
        raise error("broken")

    with pytest.raises(error, match="broken"):
        list(in_parallel([task(1), broken, task(2)], workers=2))
