"""The log: lines with a time and a level, filtered and copied."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtWidgets import QWidget


@dataclass(frozen=True)
class LogLine:
    """One line: seconds since the epoch, a `logging` level number, the logger's name, the text."""

    time: float
    level: int
    source: str
    text: str


class LogPanel(QWidget):
    """Shows the newest log lines."""

    def append(self, line: LogLine) -> None:
        """Add a line at the end."""

    def clear(self) -> None:
        """Forget all lines."""
