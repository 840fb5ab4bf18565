"""Tells the user what happened: a notice goes to the log and rises as a toast; an error has its report."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal

from studio.errors import StudioError
from studio.gui.bridge import Mailbox
from studio.gui.error_dialog import ErrorDialog
from studio.gui.log_panel import LogLine

if TYPE_CHECKING:
    from types import TracebackType

    from PySide6.QtWidgets import QWidget

    from studio.gui.log_panel import LogPanel
    from studio.gui.toast import Toast

log = logging.getLogger("studio")


class Notices(QObject):
    """Informs, warns, and reports errors."""

    shown = Signal(str)
    """(text): emitted with every toast."""
    failed = Signal(str)
    """(text): emitted with every error."""

    def __init__(self, window: QWidget, toast: Toast) -> None:
        super().__init__(window)
        self._window = window
        self._toast = toast
        self._failure: tuple[str, BaseException] | None = None
        toast.action_triggered.connect(self.open_report)

    def info(self, text: str) -> None:
        """Say that something went well."""
        log.info("%s", text)
        self._show(text)

    def warn(self, text: str) -> None:
        """Say that something went only partly well."""
        log.warning("%s", text)
        self._toast.show_message(text, "warning")
        self.shown.emit(text)

    def error(self, title: str, error: BaseException) -> None:
        """Say that something failed; the toast's button opens the whole report."""
        unexpected = not isinstance(error, StudioError)
        log.error("%s: %s", title, error, exc_info=error if unexpected else None)
        self._failure = (title, error)
        reason = error.message if isinstance(error, StudioError) else f"{type(error).__name__}: {error}"
        text = f"{title}: {reason}"
        self._toast.show_message(text, "error", "Details")
        self.shown.emit(text)
        self.failed.emit(text)

    def open_report(self) -> None:
        """Open the report of the last error."""
        if self._failure is not None:
            self.report(*self._failure)

    def report(self, title: str, error: BaseException) -> None:
        """Open the report of an error, without holding up the desk."""
        dialog = ErrorDialog(title, error, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.open()

    def unexpected(
        self, kind: type[BaseException], error: BaseException, traceback: TracebackType | None
    ) -> None:
        """Report an error that nobody caught; stands in for `sys.excepthook` while the desk is open."""
        self.error("Something went wrong inside the studio", error.with_traceback(traceback))

    def _show(self, text: str) -> None:
        self._toast.show_message(text)
        self.shown.emit(text)


class LogBridge(logging.Handler):
    """Carries log records of all threads to the log panel."""

    def __init__(self, panel: LogPanel) -> None:
        super().__init__(logging.INFO)
        self._mailbox = Mailbox(parent=panel)
        self._mailbox.arrived.connect(panel.append)
        log.setLevel(logging.INFO)
        logging.getLogger().addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        """Hand a record over; called by `logging` in the thread that wrote it."""
        self._mailbox.put(LogLine(record.created, record.levelno, record.name, self.format(record)))

    def close(self) -> None:
        """Stop listening."""
        logging.getLogger().removeHandler(self)
        super().close()
