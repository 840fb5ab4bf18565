"""A frame around a view that keeps its changes of size hint to itself, and scrolls where it is too small."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QSize, Qt
from PySide6.QtWidgets import QFrame, QScrollArea

if TYPE_CHECKING:
    from PySide6.QtWidgets import QWidget

SMALLEST = QSize(240, 60)
"""The room that a view keeps however small the window is, in pixels."""


class Pane(QScrollArea):
    """Holds one view and gives it all its room, or as much as it needs and scroll bars.

    In a dock alone, each label that changes its text would have the main window lay out all its docks again,
    which costs milliseconds at every step of a drag; and views that need much would squeeze the others.
    """

    def __init__(self, view: QWidget) -> None:
        super().__init__()
        self._view = view
        self.setWidget(view)
        self.setWidgetResizable(True)
        self.setFrameShape(QFrame.Shape.NoFrame)
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setFocusProxy(view)

    def minimumSizeHint(self) -> QSize:
        """Ask for little: the rest is scrolled to."""
        return SMALLEST

    def sizeHint(self) -> QSize:
        """Ask for what the view would like."""
        return self._view.sizeHint()
