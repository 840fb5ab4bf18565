"""A small pool of threads for file work; what jobs raise stops at its edge."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Work
    from studio.jobs.job import Job


class JobRunner:
    """Runs `Work` on worker threads.

    Attributes
    ----------
    changed
        Emitted with the `Job`, from whichever thread changed it: at every change of state, and at most 20 times a
        second for progress.
    """

    changed = Signal(object)

    def __init__(self, workers: int = 2) -> None: ...

    @property
    def jobs(self) -> Sequence[Job]:
        """All jobs that are not finished, in the order they were submitted."""
        raise NotImplementedError

    def submit(self, title: str, work: Work) -> Job:
        """Queue work and return its handle."""
        raise NotImplementedError

    def cancel_all(self) -> None:
        """Cancel every job that is not finished."""

    def join(self, timeout: float = 5.0) -> bool:
        """Cancel everything, wait for the threads to end, and say whether they did in time."""
        raise NotImplementedError
