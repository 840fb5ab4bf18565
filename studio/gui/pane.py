"""A frame around a view that keeps its changes of size hint to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize
from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from PySide6.QtGui import QResizeEvent


class Pane(QWidget):
    """Holds one view and gives it all its room, without a layout.

    Through a layout, each label that changes its text would have the main window lay out all its docks again,
    which costs milliseconds at every step of a drag. The docks' sizes are the user's matter alone.
    """

    def __init__(self, view: QWidget) -> None:
        super().__init__()
        self._view = view
        view.setParent(self)
        self.setFocusProxy(view)

    def minimumSizeHint(self) -> QSize:
        """Ask for what the view needs at least."""
        return self._view.minimumSizeHint().expandedTo(self._view.minimumSize())

    def sizeHint(self) -> QSize:
        """Ask for what the view would like."""
        return self._view.sizeHint()

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Give the view all the room."""
        self._view.setGeometry(self.rect())

    def changeEvent(self, event: QEvent) -> None:
        """Another font makes other sizes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self.updateGeometry()
