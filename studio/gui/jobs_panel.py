"""The list of jobs: progress, time left, cancel, outcome."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QLabel,
    QProgressBar,
    QPushButton,
    QScrollArea,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel, set_text_colour
from studio.gui.theme import current_theme

JobState: TypeAlias = Literal["waiting", "running", "done", "failed", "cancelled"]

_BAR_STEPS = 1000


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

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.state not in ("waiting", "running")


class JobsPanel(QWidget):
    """Shows jobs, newest first."""

    cancel_requested = Signal(str)
    """(key)."""
    report_requested = Signal(str)
    """(key): show the error of a failed job."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: dict[str, JobRow] = {}
        self.empty_label = DeskLabel(
            "Opening, exporting and measuring show up here.", small=True, quiet=True, elided=True
        )
        self.clear_button = QPushButton("Clear finished")
        self.clear_button.setAccessibleName("Clear finished jobs")
        self.clear_button.setEnabled(False)
        self._list = QWidget()
        self._list_layout = QVBoxLayout(self._list)
        self._list_layout.setContentsMargins(0, 0, 0, 0)
        self._list_layout.setSpacing(2)
        self._list_layout.addWidget(self.empty_label)
        self._list_layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(self._list)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setAccessibleName("Jobs")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(10, 6, 8, 8)
        layout.setSpacing(6)
        layout.addWidget(scroll, 1)
        layout.addWidget(self.clear_button, 0, Qt.AlignmentFlag.AlignRight)
        self.clear_button.clicked.connect(lambda: self.clear_finished())

    @property
    def rows(self) -> dict[str, JobRow]:
        """The lines by key, oldest first."""
        return dict(self._rows)

    def set_job(self, job: JobStatus) -> None:
        """Show a job: a new line for a new key, else its line is brought up to date."""
        row = self._rows.get(job.key)
        if row is None:
            row = self._rows[job.key] = JobRow(job.key, self._list)
            row.cancel_button.clicked.connect(lambda: self.cancel_requested.emit(job.key))
            row.report_button.clicked.connect(lambda: self.report_requested.emit(job.key))
            self._list_layout.insertWidget(0, row)
        row.set_job(job)
        self._show_rest()

    def drop_job(self, key: str) -> None:
        """Drop the line of a job, if it has one."""
        row = self._rows.pop(key, None)
        if row is not None:
            self._list_layout.removeWidget(row)
            row.hide()
            row.deleteLater()
            self._show_rest()

    def clear_finished(self) -> None:
        """Drop the lines of jobs that ended."""
        for key in [key for key, row in self._rows.items() if row.job.ended]:
            self.drop_job(key)

    def _show_rest(self) -> None:
        self.empty_label.setVisible(not self._rows)
        self.clear_button.setEnabled(any(row.job.ended for row in self._rows.values()))


class JobRow(QWidget):
    """One job."""

    def __init__(self, key: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.job = JobStatus(key, "")
        self.title_label = DeskLabel(elided=True)
        self.state_label = QLabel()
        self.report_button = QPushButton("Report…")
        self.cancel_button = QPushButton("Cancel")
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.message_label = DeskLabel(small=True, quiet=True, elided=True)
        head = QHBoxLayout()
        head.setSpacing(10)
        head.addWidget(self.title_label, 1)
        head.addWidget(self.state_label)
        head.addWidget(self.report_button)
        head.addWidget(self.cancel_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 2, 8, 6)
        layout.setSpacing(3)
        layout.addLayout(head)
        layout.addWidget(self.bar)
        layout.addWidget(self.message_label)

    def set_job(self, job: JobStatus) -> None:
        """Show these values."""
        self.job = job
        self.title_label.setText(job.title)
        self.bar.setAccessibleName(f"Progress of {job.title}")
        self.cancel_button.setAccessibleName(f"Cancel {job.title}")
        self.report_button.setAccessibleName(f"Report on {job.title}")
        unknown = job.share is None and job.state == "running"
        self.bar.setRange(0, 0 if unknown else _BAR_STEPS)
        if not unknown:
            share = 1.0 if job.state == "done" else job.share or 0.0
            self.bar.setValue(round(share * _BAR_STEPS))
        self.bar.setVisible(not job.ended)
        self.state_label.setText(state_text(job))
        self.message_label.setText(job.message)
        self.message_label.setToolTip(job.message)
        self.message_label.setVisible(bool(job.message))
        self.report_button.setVisible(job.state == "failed")
        self.cancel_button.setVisible(not job.ended)
        self._take_colours()

    def _take_colours(self) -> None:
        theme = current_theme()
        colours = {"failed": theme.danger, "done": theme.good, "cancelled": theme.faint}
        set_text_colour(self.state_label, colours.get(self.job.state, theme.text))

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._take_colours()


def state_text(job: JobStatus) -> str:
    """Return where a job stands in a few words, such as ``62 % · 0:41 left``."""
    if job.state != "running":
        return {"waiting": "waiting", "done": "done", "failed": "failed", "cancelled": "cancelled"}[job.state]
    parts = [] if job.share is None else [f"{job.share:.0%}".replace("%", " %")]
    if job.eta_seconds is not None:
        parts.append(f"{duration(job.eta_seconds)} left")
    return " · ".join(parts) or "running"


def duration(seconds: float) -> str:
    """Return a time as ``0:41`` or ``1:02:03``."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
