"""A message that comes down over the window's upper edge, beside its menus, and leaves by itself."""

from __future__ import annotations

from typing import Literal, TypeAlias

from PySide6.QtCore import QEvent, QObject, QRectF, QSize, Qt, QTimer, Signal
from PySide6.QtGui import QAccessible, QAccessibleAnnouncementEvent, QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QFrame, QHBoxLayout, QLabel, QMainWindow, QPushButton, QSizePolicy, QWidget

from studio.gui.controls import CloseButton
from studio.gui.theme import current_theme

ToastKind: TypeAlias = Literal["info", "warning", "error"]

_SHOWN_MS = 6000
_EDGE, _GAP, _NARROWEST, _WIDEST = 3, 8, 360, 560


class Toast(QFrame):
    """One toast for a window: the newest message replaces the one before."""

    action_triggered = Signal()
    """The toast's button, such as Details, was pressed."""

    def __init__(self, parent: QWidget) -> None:
        super().__init__(parent)
        self._kind: ToastKind = "info"
        self.label = QLabel()
        self.label.setWordWrap(True)
        self.label.setTextFormat(Qt.TextFormat.PlainText)
        self.label.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Preferred)
        self.action_button = QPushButton()
        self.close_button = CloseButton("Close this message")
        self._window = parent
        layout = self._row = QHBoxLayout(self)
        layout.setContentsMargins(18, 10, 8, 10)
        layout.setSpacing(10)
        layout.addWidget(self.label, 1)
        layout.addWidget(self.action_button)
        layout.addWidget(self.close_button)
        self.timer = QTimer(self)
        self.timer.setSingleShot(True)
        self.timer.setInterval(_SHOWN_MS)
        self.timer.timeout.connect(self.hide)
        self.close_button.clicked.connect(lambda: self.hide())
        self.action_button.clicked.connect(self._act)
        parent.installEventFilter(self)
        self.hide()

    def show_message(self, text: str, kind: ToastKind = "info", action: str = "") -> None:
        """Show a message, with a button if `action` names one.

        Errors stay until they are closed; other messages leave after 6 s.
        """
        self._kind = kind
        self.label.setText(text)
        self.setAccessibleName(f"{kind}: {text}")
        self.action_button.setText(action)
        self.action_button.setAccessibleName(action)
        self.action_button.setVisible(bool(action))
        self.timer.stop()
        if kind != "error":
            self.timer.start()
        self._place()
        self.show()
        self.raise_()
        QAccessible.updateAccessibility(QAccessibleAnnouncementEvent(self, text))

    def _act(self) -> None:
        self.hide()
        self.action_triggered.emit()

    def _place(self) -> None:
        """Sit at the upper right, beside the menus or below, as wide as the text needs up to a limit."""
        window, margins = self._window, self._row.contentsMargins()
        rest = margins.left() + margins.right() + self.close_button.width() + 2 * self._row.spacing()
        rest += self.action_button.sizeHint().width() if self.action_button.text() else 0
        text_width = self.label.fontMetrics().horizontalAdvance(self.label.text()) + 8
        menus = window.menuBar().sizeHint() if isinstance(window, QMainWindow) else QSize(0, 0)
        beside = window.width() - menus.width() - 2 * _GAP >= _NARROWEST
        room = window.width() - 2 * _GAP - (menus.width() if beside else 0)
        width = min(_WIDEST, room, text_width + rest)
        height = self._row.totalHeightForWidth(width)
        top = _EDGE if beside else menus.height()
        self.setGeometry(window.width() - width - _GAP, top, width, height)

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:
        """Keep its place when the window changes size."""
        if event.type() == QEvent.Type.Resize and self.isVisible():
            self._place()
        return super().eventFilter(watched, event)

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the ground, and the kind as a coloured edge."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(theme.line), 1))
        painter.setBrush(QColor(theme.raised))
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        colour = {"info": theme.accent, "warning": theme.warning, "error": theme.danger}[self._kind]
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(colour))
        painter.drawRoundedRect(QRectF(6, 8, 3, self.height() - 16), 1.5, 1.5)
