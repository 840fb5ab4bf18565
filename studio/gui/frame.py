"""Views that follow a flood of changes are brought up to date once a frame, not once a change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer

if TYPE_CHECKING:
    from collections.abc import Callable

FRAME_MS = 25
"""The shortest time between two updates, in milliseconds."""


class OncePerFrame(QObject):
    """Calls a function soon after it was asked for, however often that was."""

    def __init__(self, update: Callable[[], object], parent: QObject) -> None:
        super().__init__(parent)
        self._update = update
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(FRAME_MS)
        self._timer.timeout.connect(self.now)

    def request(self) -> None:
        """Ask for an update within one frame."""
        if not self._timer.isActive():
            self._timer.start()

    def stop(self) -> None:
        """Forget a request that is still open."""
        self._timer.stop()

    def now(self) -> None:
        """Update at once, instead of later."""
        self._timer.stop()
        self._update()
