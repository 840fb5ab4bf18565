"""Many small tasks on all cores, a few ahead of whoever takes the results, and easily given up."""

from __future__ import annotations

import os
import threading
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import TYPE_CHECKING, TypeAlias, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from studio.contracts import Cancelled

Result = TypeVar("Result")
Task: TypeAlias = "Callable[[Cancelled], Result]"
"""What runs on a worker thread. A long one asks now and then whether it is cancelled."""

WAIT_SECONDS = 0.2
"""How long a result is waited for before the taker can think again."""

AHEAD = 2
"""How many tasks a worker are begun or waiting: enough to keep it busy, few enough to bound memory."""


def in_parallel(
    tasks: Iterable[Task[Result]], workers: int | None = None
) -> Generator[Result | None, None, None]:
    """Run tasks on worker threads and yield their results in order; None while one is waited for.

    Tasks are taken from the iterable, on the caller's thread, a few before their results are due. Closing the
    generator cancels those under way and waits for them. What a task raises is raised here.
    """
    count = workers or os.cpu_count() or 1
    stopped = threading.Event()
    waiting: deque[Future[Result]] = deque()
    source = iter(tasks)
    pool = ThreadPoolExecutor(count, thread_name_prefix="task")
    try:
        while True:
            while len(waiting) < AHEAD * count and (task := next(source, None)) is not None:
                waiting.append(pool.submit(task, stopped.is_set))
            if not waiting:
                return
            try:
                result = waiting[0].result(timeout=WAIT_SECONDS)
            except NotYet:
                if not waiting[0].done():  # otherwise the task itself ran into a timeout
                    yield None
                    continue
                raise
            waiting.popleft()
            yield result
    finally:
        stopped.set()
        pool.shutdown(wait=True, cancel_futures=True)
