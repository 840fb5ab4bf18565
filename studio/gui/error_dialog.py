"""A readable report of an error, with a button that copies it."""

from __future__ import annotations

from PySide6.QtWidgets import QDialog, QWidget


class ErrorDialog(QDialog):
    """Says what failed, where, what to do, and, folded away, the details for a bug report."""

    def __init__(self, title: str, error: BaseException, parent: QWidget | None = None) -> None:
        super().__init__(parent)


def error_report(title: str, error: BaseException) -> str:
    """Return the report as plain text: problem, place, remedy, and the traceback of an unexpected error."""
    return ""
