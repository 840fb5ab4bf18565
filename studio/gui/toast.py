"""A message that rises over the window's lower edge and leaves by itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QWidget

ToastKind: TypeAlias = Literal["info", "warning", "error"]


class Toast(QFrame):
    """One toast for a window: the newest message replaces the one before."""

    action_triggered = Signal()
    """The toast's button, such as Details, was pressed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self.hide()

    def show_message(self, text: str, kind: ToastKind = "info", action: str = "") -> None:
        """Show a message, with a button if `action` names one. Errors stay until closed; others leave after 6 s."""
