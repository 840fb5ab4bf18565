"""One piece of long work as the jobs list shows it: title, progress, remaining time, result or error."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from studio.contracts import Progress
from studio.errors import CancelledError
from studio.jobs.failures import as_studio_error
from studio.jobs.remaining import RemainingTime

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import Work
    from studio.errors import StudioError

JobState: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
"""The life of a job; the last three are final."""

REPORT_SECONDS = 0.05
"""The least time between two notices of progress: 20 a second are enough for the eye."""


class Job:
    """A handle on work that a `JobRunner` runs. Any thread may read it or cancel it.

    Attributes
    ----------
    title
        What it is, for the list.
    state
        Where it stands.
    progress
        The last progress it reported.
    result
        What it returned, once done.
    error
        Why it failed, always a `StudioError`; an unexpected exception is its ``__cause__``.
    """

    def __init__(self, title: str, work: Work, changed: Callable[[Job], object]) -> None:
        self.title = title
        self.state: JobState = "queued"
        self.progress = Progress(0, 0)
        self.result: Any = None
        self.error: StudioError | None = None
        self._work = work
        self._changed = changed
        self._cancelled = threading.Event()
        self._finished = threading.Event()
        self._lock = threading.Lock()
        self._remaining = RemainingTime()

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        return self._finished.is_set()

    @property
    def eta_seconds(self) -> float | None:
        """Smoothed remaining time in seconds, or None while it cannot be told."""
        return self._remaining.seconds(time.monotonic()) if self.state == "running" else None

    def cancel(self) -> None:
        """Ask it to stop: at once while queued, else at its next progress report."""
        self._cancelled.set()
        if self._enter("cancelled", expected="queued"):
            self._work.close()
            self._finish()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the state is final and was reported; say whether it is."""
        return self._finished.wait(timeout)

    def run(self) -> None:
        """Run the work to its end on this thread, whatever it raises. Called once, by the runner."""
        if not self._enter("running", expected="queued"):
            return
        self._changed(self)
        try:
            self.result = self._drive()
            self.state = "done"
        except CancelledError:
            self.state = "cancelled"
        except BaseException as error:  # the edge: work may raise anything, SystemExit included
            self.error = as_studio_error(error)
            self.state = "failed"
        self._finish()

    def _drive(self) -> Any:
        """Step through the work; closing it is what cancels it, so its own clean-up runs."""
        reported = 0.0
        while True:
            if self._cancelled.is_set():
                self._work.close()
                raise CancelledError
            try:
                self.progress = next(self._work)
            except StopIteration as end:
                return end.value
            now = time.monotonic()
            self._remaining.report(self.progress.done, self.progress.total, now)
            if now - reported >= REPORT_SECONDS:
                reported = now
                self._changed(self)

    def _enter(self, state: JobState, *, expected: JobState) -> bool:
        """Change the state if it is as expected; of cancelling and starting at once, only one wins."""
        with self._lock:
            if self.state != expected:
                return False
            self.state = state
            return True

    def _finish(self) -> None:
        try:
            self._changed(self)
        finally:
            self._finished.set()
