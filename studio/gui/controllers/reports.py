"""The import report: shown when an adapter has something to tell, and whenever it is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.gui.frame import OncePerFrame
from studio.gui.report_panel import has_warnings

if TYPE_CHECKING:
    from studio.gui.main_window import MainWindow
    from studio.session.session import Session


class ReportsController(QObject):
    """Keeps the report panel true to the stack."""

    def __init__(self, session: Session, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._window = window
        window.stack.report_requested.connect(self.open)
        window.commands.report.triggered.connect(lambda: self.open(window.stack.focused))
        self._frame = OncePerFrame(self._show, self)
        session.stack.changed.connect(self._frame.request)
        session.base_changed.connect(self._frame.request)
        self._show()

    def open(self, key: str) -> None:
        """Show the report of a channel, and go there."""
        self._raise(key)
        self._window.report.choice.setFocus()

    def tell(self, key: str) -> None:
        """Show the report of an adapter that was just added; it comes to the front where it says much."""
        if has_warnings(self._session.reports[key]):
            self._raise(key)
        else:
            self._frame.now()
            self._window.report.set_shown(key)

    def _raise(self, key: str) -> None:
        self._frame.now()
        self._window.report.set_shown(key)
        dock = self._window.docks["report"]
        dock.show()
        dock.raise_()

    def _show(self) -> None:
        reports = self._session.reports
        self._window.report.set_reports(reports)
        self._window.commands.report.setEnabled(bool(reports))
