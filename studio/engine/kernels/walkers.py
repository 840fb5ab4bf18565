"""The threads that walk through programs together, one program at a time."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from studio.engine.kernels.steps import walk

if TYPE_CHECKING:
    import numpy as np

MOST_THREADS = 16

SLOT = 8
"""How many int64 a counter takes: a cache line each, so that threads do not fight over one."""


def thread_count() -> int:
    """Return how many threads compute: one for each CPU that this process may use."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(MOST_THREADS, available)


class Walkers:
    """Threads that wait for programs. Any thread may bring one; the next waits until it is done."""

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or thread_count()
        self._lock = threading.Lock()
        self._leader = ThreadPoolExecutor(1, thread_name_prefix="kernel leader")
        self._pool = ThreadPoolExecutor(max(1, self.threads - 1), thread_name_prefix="kernels")

    def walk(self, steps: np.ndarray[Any, Any], counters: np.ndarray[Any, Any], position: int) -> None:
        """Do all steps of a program. Whatever interrupts the caller, nobody walks any more on return.

        The leader has a thread of its own, since Ctrl-C interrupts the main thread anywhere, and the others
        would then wait for it in memory that its caller lets go of.

        Parameters
        ----------
        steps
            int64 ``[n, COLUMNS]``.
        counters
            int64: the arrivals and the claims that the steps name.
        position
            The token's place in the sequence.
        """
        with self._lock:
            try:
                self._leader.submit(self._lead, steps, counters, position).result()
            except BaseException:
                self._leader.submit(int).result()  # the leader does one thing after the other
                raise

    def _lead(self, steps: np.ndarray[Any, Any], counters: np.ndarray[Any, Any], position: int) -> None:
        counters[:] = 0
        meeting = counters.ctypes.data
        others = [
            self._pool.submit(walk, steps, meeting, thread, self.threads, position)
            for thread in range(1, self.threads)
        ]
        walk(steps, meeting, 0, self.threads, position)
        for other in others:
            other.result()
