"""The list of jobs: progress, time left, cancel, outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

JobState: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]


@dataclass(frozen=True)
class JobStatus:
    """What one job's line shows.

    Attributes
    ----------
    key
        Names the job in signals.
    share
        Progress from 0 to 1; None: not known.
    eta_seconds
        Time left; None: not known.
    message
        What it is doing, or why it failed, in one line.
    """

    key: str
    title: str
    state: JobState = "waiting"
    share: float | None = None
    eta_seconds: float | None = None
    message: str = ""


class JobsPanel(QWidget):
    """Shows jobs, newest first."""

    cancel_requested = Signal(str)
    """(key)."""
    report_requested = Signal(str)
    """(key): show the error of a failed job."""

    def set_job(self, job: JobStatus) -> None:
        """Show a job: a new line for a new key, else its line is brought up to date."""

    def clear_finished(self) -> None:
        """Drop the lines of jobs that ended."""
