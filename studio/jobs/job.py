"""One piece of long work as the jobs list shows it: title, progress, remaining time, result or error."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

if TYPE_CHECKING:
    from studio.contracts import Progress
    from studio.errors import StudioError

JobState: TypeAlias = Literal["queued", "running", "done", "failed", "cancelled"]
"""The life of a job; the last three are final."""


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
        Why it failed, always a `StudioError`; an unexpected exception is its `__cause__`.
    """

    title: str
    state: JobState
    progress: Progress
    result: Any
    error: StudioError | None

    @property
    def finished(self) -> bool:
        """Whether the state is final."""
        raise NotImplementedError

    @property
    def eta_seconds(self) -> float | None:
        """Smoothed remaining time in seconds, or None while it cannot be told."""
        raise NotImplementedError

    def cancel(self) -> None:
        """Ask it to stop: at once while queued, else at its next progress report."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the state is final; say whether it is."""
        raise NotImplementedError
