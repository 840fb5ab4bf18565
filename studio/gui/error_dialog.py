"""A readable report of an error, with a button that copies it."""

from __future__ import annotations

import traceback

from PySide6.QtCore import Qt
from PySide6.QtGui import QFont, QFontDatabase, QGuiApplication, QShowEvent
from PySide6.QtWidgets import (
    QDialog,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.errors import StudioError
from studio.gui.shapes import PRIMARY
from studio.gui.theme import strong_font


class ErrorDialog(QDialog):
    """Says what failed, where, what to do, and, folded away, the details for a bug report."""

    def __init__(self, title: str, error: BaseException, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.report = error_report(title, error)
        self.setWindowTitle(title)
        self.setAccessibleName(title)
        self.setMinimumWidth(520)
        heading = _wrapped(title)
        font = QFont(heading.font())
        font.setPointSizeF(font.pointSizeF() * 1.25)
        heading.setFont(strong_font(font))
        facts = QFormLayout()
        facts.setHorizontalSpacing(16)
        facts.setVerticalSpacing(8)
        facts.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        for name, value in _facts(error):
            label = QLabel(name)
            label.setForegroundRole(label.palette().ColorRole.PlaceholderText)
            facts.addRow(label, _wrapped(value))
        self.details = QPlainTextEdit(self.report)
        self.details.setReadOnly(True)
        self.details.setTabChangesFocus(True)
        self.details.setAccessibleName("The whole report")
        self.details.setFont(QFontDatabase.systemFont(QFontDatabase.SystemFont.FixedFont))
        self.details.setMinimumHeight(180)
        self.details.hide()
        self.details_button = QPushButton("Details")
        self.details_button.setCheckable(True)
        self.copy_button = QPushButton("Copy report")
        self.close_button = QPushButton("Close")
        self.close_button.setProperty(PRIMARY, True)
        self.close_button.setDefault(True)
        buttons = QHBoxLayout()
        buttons.addWidget(self.details_button)
        buttons.addStretch(1)
        buttons.addWidget(self.copy_button)
        buttons.addWidget(self.close_button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(22, 20, 22, 16)
        layout.setSpacing(14)
        layout.addWidget(heading)
        layout.addLayout(facts)
        layout.addWidget(self.details, 1)
        layout.addLayout(buttons)
        self.details_button.toggled.connect(self._show_details)
        self.copy_button.clicked.connect(self._copy)
        self.close_button.clicked.connect(self.accept)

    def _show_details(self, shown: bool) -> None:
        self.details.setVisible(shown)
        self._fit()

    def _fit(self) -> None:
        """Be as high as the text needs at this width; a hint alone would leave room for narrower lines."""
        layout = self.layout()
        assert layout is not None
        layout.activate()
        self.resize(self.width(), layout.totalHeightForWidth(self.width()))

    def showEvent(self, event: QShowEvent) -> None:
        """Take the height that the text needs."""
        super().showEvent(event)
        self._fit()

    def _copy(self) -> None:
        QGuiApplication.clipboard().setText(self.report)
        self.copy_button.setText("Copied")


def error_report(title: str, error: BaseException) -> str:
    """Return the report as plain text: problem, place, remedy, and the traceback of an unexpected error."""
    lines = [title, *(f"{name}: {value}" for name, value in _facts(error))]
    if not isinstance(error, StudioError) or error.__cause__ is not None:
        lines += ["", "".join(traceback.format_exception(error)).rstrip()]
    return "\n".join(lines)


def _facts(error: BaseException) -> list[tuple[str, str]]:
    """Return what is known of an error as (name, text), in the order to read."""
    if not isinstance(error, StudioError):
        return [
            ("Problem", str(error) or "no message"),
            ("Kind", type(error).__name__),
            ("What to do", "This was not expected. Please copy the report and file it as a bug."),
        ]
    known = [
        ("Problem", error.message),
        ("File", error.path),
        ("Where", error.where),
        ("What to do", error.remedy),
        ("Kind", type(error).__name__),
    ]
    return [(name, str(value)) for name, value in known if value]


def _wrapped(text: str) -> QLabel:
    """Return a label whose text wraps and can be selected; a long path breaks at its separators."""
    label = QLabel(text.replace("/", "/\u200b").replace("\\", "\\\u200b"))
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    return label
