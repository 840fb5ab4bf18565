"""A small pool of threads for file work; what jobs raise stops at its edge."""

from __future__ import annotations

import logging
import queue
import threading
import time
from typing import TYPE_CHECKING

from psygnal import Signal

from studio.jobs.job import Job

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Work

logger = logging.getLogger(__name__)


class JobRunner:
    """Runs `Work` on worker threads.

    Attributes
    ----------
    changed
        Emitted with the `Job`, from whichever thread changed it: at every change of state, and at most
        20 times a second for progress.
    """

    changed = Signal(object)

    def __init__(self, workers: int = 2) -> None:
        self._queue: queue.SimpleQueue[Job | None] = queue.SimpleQueue()
        self._jobs: list[Job] = []
        self._lock = threading.Lock()
        self._joined = False
        # Daemons, so that work which hangs inside one step cannot keep the process alive; files are safe,
        # since every writer is atomic.
        self._threads = [
            threading.Thread(target=self._serve, name=f"job worker {number}", daemon=True)
            for number in range(workers)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def jobs(self) -> Sequence[Job]:
        """All jobs that are not finished, in the order they were submitted."""
        with self._lock:
            return tuple(self._jobs)

    def submit(self, title: str, work: Work, *, long: bool = False) -> Job:
        """Queue work and return its handle; long work has a thread of its own and keeps none waiting."""
        job = Job(title, work, self._report)
        with self._lock:
            if self._joined:
                raise RuntimeError("the job runner was joined and takes no more work")
            self._jobs.append(job)
            if long:
                thread = threading.Thread(target=job.run, name=f"job {title}", daemon=True)
                thread.start()
                self._threads = [*filter(threading.Thread.is_alive, self._threads), thread]
        self._report(job)
        if not long:
            self._queue.put(job)
        return job

    def cancel_all(self) -> None:
        """Cancel every job that is not finished."""
        for job in self.jobs:
            job.cancel()

    def join(self, timeout: float = 5.0) -> bool:
        """Cancel everything, wait for the threads to end, and say whether they did in time."""
        with self._lock:
            already, self._joined = self._joined, True
        self.cancel_all()
        if not already:
            for _ in self._threads:
                self._queue.put(None)
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _serve(self) -> None:
        while (job := self._queue.get()) is not None:
            job.run()

    def _report(self, job: Job) -> None:
        """Tell the listeners; one that fails harms neither the job nor the thread."""
        if job.state in ("done", "failed", "cancelled"):
            with self._lock:
                if job in self._jobs:
                    self._jobs.remove(job)
        try:
            self.changed.emit(job)
        except Exception:
            logger.exception("a listener failed on job %r", job.title)
