"""The log: lines with a time and a level, filtered and copied."""

from __future__ import annotations

import logging
import time
from collections import deque
from dataclasses import dataclass

from PySide6.QtCore import QEvent
from PySide6.QtGui import QColor, QGuiApplication, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QComboBox,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.gui.theme import current_theme

_KEPT_LINES = 2000
_LEVELS = (
    ("Everything", logging.DEBUG),
    ("Info and up", logging.INFO),
    ("Warnings and errors", logging.WARNING),
    ("Errors only", logging.ERROR),
)


@dataclass(frozen=True)
class LogLine:
    """One line.

    Attributes
    ----------
    time
        Seconds since the epoch.
    level
        A level number of `logging`.
    source
        The logger's name.
    text
        The message; it may have several lines.
    """

    time: float
    level: int
    source: str
    text: str

    def __str__(self) -> str:
        """Give the line as it is copied."""
        return self.columns("  ")

    def columns(self, between: str) -> str:
        """Give time, level and message with something between them."""
        clock = time.strftime("%H:%M:%S", time.localtime(self.time))
        return between.join((clock, logging.getLevelName(self.level).lower(), f"{self.source}: {self.text}"))


class LogPanel(QWidget):
    """Shows the newest log lines of a level and up."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lines: deque[LogLine] = deque(maxlen=_KEPT_LINES)
        self.level_box = QComboBox()
        self.level_box.setAccessibleName("Which log lines to show")
        for title, level in _LEVELS:
            self.level_box.addItem(title, level)
        self.level_box.setCurrentIndex(1)
        self.copy_button = QPushButton("Copy")
        self.copy_button.setAccessibleName("Copy the log")
        self.clear_button = QPushButton("Clear")
        self.clear_button.setAccessibleName("Clear the log")
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setUndoRedoEnabled(False)
        self.text.setMaximumBlockCount(_KEPT_LINES)
        self.text.setAccessibleName("Log")
        self.text.document().setDocumentMargin(8)
        head = QHBoxLayout()
        head.addWidget(self.level_box)
        head.addStretch(1)
        head.addWidget(self.copy_button)
        head.addWidget(self.clear_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 8)
        layout.setSpacing(6)
        layout.addLayout(head)
        layout.addWidget(self.text, 1)
        self._set_columns()
        self.level_box.currentIndexChanged.connect(lambda _: self._write_again())
        self.copy_button.clicked.connect(self._copy)
        self.clear_button.clicked.connect(lambda: self.clear())

    def append(self, line: LogLine) -> None:
        """Add a line at the end."""
        self._lines.append(line)
        self._write(line)

    def clear(self) -> None:
        """Forget all lines."""
        self._lines.clear()
        self.text.clear()

    def _shown(self, line: LogLine) -> bool:
        return line.level >= int(self.level_box.currentData())

    def _write(self, line: LogLine) -> None:
        """Write a line in the colour of its level, and stay at the end if the end was in sight."""
        if not self._shown(line):
            return
        theme, style = current_theme(), QTextCharFormat()
        loud = theme.danger if line.level >= logging.ERROR else theme.warning
        quiet = theme.text if line.level >= logging.INFO else theme.faint
        style.setForeground(QColor(loud if line.level >= logging.WARNING else quiet))
        bar = self.text.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 1
        cursor = QTextCursor(self.text.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        if not self.text.document().isEmpty():
            cursor.insertBlock()
        cursor.insertText(line.columns("\t"), style)
        if at_end:
            bar.setValue(bar.maximum())

    def _write_again(self) -> None:
        self.text.clear()
        for line in self._lines:
            self._write(line)

    def _copy(self) -> None:
        """Copy the lines shown."""
        QGuiApplication.clipboard().setText("\n".join(str(line) for line in self._lines if self._shown(line)))

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme: the colours stand in the text itself."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._write_again()
        elif event.type() == QEvent.Type.FontChange:
            self._set_columns()

    def _set_columns(self) -> None:
        self.text.setTabStopDistance(self.text.fontMetrics().horizontalAdvance("warning") + 14)
