"""A window beside the desk for work in a worker: a button that begins it, one that ends it, and a bar."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QDialog, QHBoxLayout, QLayout, QProgressBar, QPushButton, QVBoxLayout, QWidget

from studio.gui.shapes import PRIMARY


class WorkDialog(QDialog):
    """Its setters never emit. Whoever fills it says in `reason` why work cannot begin, and calls `refresh`.

    Parameters
    ----------
    title
        The window's.
    action
        What the button says that begins.
    work
        What the bar is the progress of.
    """

    requested = Signal()
    """Begin."""
    stop_requested = Signal()
    """End it early."""

    def __init__(self, title: str, action: str, work: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setWindowTitle(title)
        self.bar = QProgressBar()
        self.bar.setTextVisible(False)
        self.bar.setFixedHeight(6)
        self.bar.setAccessibleName(f"Progress of {work}")
        self.start_button = QPushButton(action)
        self.start_button.setProperty(PRIMARY, True)
        self.start_button.setDefault(True)
        self.stop_button = QPushButton("Stop")
        self.stop_button.setAutoDefault(False)
        self.start_button.clicked.connect(self.requested)
        self.stop_button.clicked.connect(self.stop_requested)
        self.obstacle = ""
        self._running = False

    @property
    def reason(self) -> str:
        """Why work cannot begin now; empty where it can."""
        return self.obstacle

    def set_running(self, running: bool) -> None:
        """Say whether work is under way."""
        self._running = running
        self.stop_button.setEnabled(running)
        if not running:
            self.set_done(0, 1)
        self.refresh()

    def set_obstacle(self, reason: str) -> None:
        """Say what stands in the way from outside; empty for nothing."""
        self.obstacle = reason
        self.refresh()

    def set_done(self, done: int, total: int) -> None:
        """Show how far it is."""
        self.bar.setRange(0, max(total, 1))
        self.bar.setValue(done)

    def refresh(self) -> None:
        """Offer to begin where nothing stands in the way, and else tell what does."""
        self.start_button.setEnabled(not self.reason and not self._running)
        self.start_button.setToolTip(self.reason)

    def lay_out(self, body: QLayout) -> None:
        """Put the body above the bar and the buttons."""
        close = QPushButton("Close")
        close.setAutoDefault(False)
        close.clicked.connect(self.reject)
        foot = QHBoxLayout()
        foot.setSpacing(10)
        foot.addWidget(self.bar, 1)
        for button in (self.start_button, self.stop_button, close):
            foot.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(16, 14, 16, 12)
        layout.setSpacing(12)
        layout.addLayout(body, 1)
        layout.addLayout(foot)
