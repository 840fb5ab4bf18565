"""A fader for adapter scales: fine around 0, wide at the ends, 0 and 1 easy to hit."""

from __future__ import annotations

import math

from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
    QWheelEvent,
)
from PySide6.QtWidgets import QSizePolicy, QSlider, QWidget

from studio.gui.shapes import mixed
from studio.gui.theme import current_theme

LIMIT = 4.0
"""The scales at the two ends are -LIMIT and LIMIT; beyond them only the number box reaches."""

STEPS_PER_UNIT = 100
"""One arrow key press moves by 1 / STEPS_PER_UNIT."""

_MARKS = (-4, -2, -1, 0, 1, 2, 4)
_MAGNETS = (0.0, 1.0)
_MAGNET_PIXELS = 2.0
_FINE = 0.1
_HANDLE_WIDTH, _HANDLE_HEIGHT, _GROOVE = 9.0, 18.0, 4.0
_STEP_KEYS = {
    Qt.Key.Key_Left,
    Qt.Key.Key_Right,
    Qt.Key.Key_Up,
    Qt.Key.Key_Down,
    Qt.Key.Key_PageUp,
    Qt.Key.Key_PageDown,
    Qt.Key.Key_Home,
    Qt.Key.Key_End,
}


class Fader(QSlider):
    """A horizontal fader from -4 to 4 whose distance from the middle grows with the root of the scale.

    So 0, ±1 and ±4 stand at the middle, half way and the ends. Drag moves it, with Ctrl ten times finer;
    arrow keys step by 0.01, page keys by 0.1; a double-click sets 1.
    """

    moved = Signal(float)
    """(scale): the user moved it."""
    drag_started = Signal()
    """A drag or a held key begins."""
    drag_finished = Signal()
    """It ended."""

    def __init__(self, colour: QColor | None = None, parent: QWidget | None = None) -> None:
        super().__init__(Qt.Orientation.Horizontal, parent)
        self._colour = colour
        self._grabbed: tuple[float, float] | None = None  # where the mouse and the handle were
        self._key_held = False
        self.setRange(round(-LIMIT * STEPS_PER_UNIT), round(LIMIT * STEPS_PER_UNIT))
        self.setSingleStep(1)
        self.setPageStep(STEPS_PER_UNIT // 10)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setMinimumSize(88, 26)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setToolTip("Drag, with Ctrl for fine steps. Double-click: back to 1.")
        self.valueChanged.connect(self._announce)

    @property
    def scale(self) -> float:
        """Where it stands."""
        return self.value() / STEPS_PER_UNIT

    def set_scale(self, scale: float) -> None:
        """Show a scale without emitting; one beyond the ends stands at the end."""
        blocked = self.blockSignals(True)
        self.setValue(round(max(-LIMIT, min(LIMIT, scale)) * STEPS_PER_UNIT))
        self.blockSignals(blocked)
        self.update()

    def set_colour(self, colour: QColor) -> None:
        """Paint the part between 0 and the handle in this colour."""
        self._colour = colour
        self.update()

    def _announce(self, value: int) -> None:
        self.moved.emit(value / STEPS_PER_UNIT)

    def _x_of(self, scale: float) -> float:
        """Return where a scale stands, in pixels."""
        half = (self.width() - _HANDLE_WIDTH) / 2 - 1
        return self.width() / 2 + half * math.copysign(math.sqrt(min(abs(scale) / LIMIT, 1.0)), scale)

    def _scale_at(self, x: float) -> float:
        """Return the scale at a pixel; near 0 and 1 exactly those."""
        for magnet in _MAGNETS:
            if abs(x - self._x_of(magnet)) <= _MAGNET_PIXELS:
                return magnet
        half = (self.width() - _HANDLE_WIDTH) / 2 - 1
        share = max(-1.0, min(1.0, (x - self.width() / 2) / half))
        return math.copysign(share * share * LIMIT, share)

    def _drag_to(self, scale: float) -> None:
        self.setValue(round(scale * STEPS_PER_UNIT))

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Grab the handle, or bring it here."""
        if event.button() != Qt.MouseButton.LeftButton:
            event.ignore()
            return
        x, handle = event.position().x(), self._x_of(self.scale)
        self.setSliderDown(True)
        self.drag_started.emit()
        if abs(x - handle) > _HANDLE_WIDTH:
            self._drag_to(self._scale_at(x))
            handle = x
        self._grabbed = (x, handle)

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Follow the mouse; with Ctrl at a tenth of its speed."""
        if self._grabbed is None:
            return
        grabbed_at, handle = self._grabbed
        moved = event.position().x() - grabbed_at
        if event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            handle += moved * _FINE
            self._grabbed = (event.position().x(), handle)
        else:
            handle += moved
        self._drag_to(self._scale_at(handle))

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """Let go."""
        if self._grabbed is not None and event.button() == Qt.MouseButton.LeftButton:
            self._grabbed = None
            self.setSliderDown(False)
            self.drag_finished.emit()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Go back to 1, as trained."""
        self.drag_started.emit()
        self._drag_to(1.0)
        self.drag_finished.emit()

    def wheelEvent(self, event: QWheelEvent) -> None:
        """Scroll the list around it, unless it has the focus: a passing wheel must not change a mix."""
        if self.hasFocus():
            super().wheelEvent(event)
        else:
            event.ignore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Step; a held key is one drag."""
        if event.key() in _STEP_KEYS and not self._key_held:
            self._key_held = True
            self.drag_started.emit()
        super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """End the drag of a held key."""
        if event.key() in _STEP_KEYS and not event.isAutoRepeat():
            self._release_key()
        super().keyReleaseEvent(event)

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """End the drag of a key whose release goes elsewhere."""
        self._release_key()
        super().focusOutEvent(event)

    def _release_key(self) -> None:
        if self._key_held:
            self._key_held = False
            self.drag_finished.emit()

    def changeEvent(self, event: QEvent) -> None:
        """Repaint when it is enabled or disabled."""
        super().changeEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint marks, groove, the level from 0 to the handle, and the handle."""
        theme = current_theme()
        colour = self._colour or QColor(theme.accent)
        if not self.isEnabled():
            colour = QColor(theme.line)
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle, x = self.height() / 2, self._x_of(self.scale)
        painter.setPen(QPen(mixed(theme.line, theme.faint, 0.45), 1))
        for mark in _MARKS:
            at = round(self._x_of(mark)) + 0.5
            length = 3.0 if mark in _MAGNETS else 1.5
            painter.drawLine(QPointF(at, self.height() - 0.5 - length), QPointF(at, self.height() - 0.5))
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(theme.line))
        painter.drawRoundedRect(
            QRectF(1, middle - _GROOVE / 2, self.width() - 2, _GROOVE), _GROOVE / 2, _GROOVE / 2
        )
        painter.setBrush(colour)
        zero = self._x_of(0.0)
        painter.drawRect(QRectF(min(zero, x), middle - _GROOVE / 2, abs(x - zero), _GROOVE))
        handle = QRectF(x - _HANDLE_WIDTH / 2, middle - _HANDLE_HEIGHT / 2, _HANDLE_WIDTH, _HANDLE_HEIGHT)
        line = QColor(theme.accent) if self.hasFocus() else mixed(theme.line, theme.text, 0.35)
        painter.setPen(QPen(line, 1.6 if self.hasFocus() else 1))
        painter.setBrush(
            mixed(theme.raised, theme.text, 0.1 if self.isSliderDown() or self.underMouse() else 0.0)
        )
        painter.drawRoundedRect(handle, 3, 3)
        painter.setPen(QPen(colour, 2))
        painter.drawLine(QPointF(x, handle.top() + 5), QPointF(x, handle.bottom() - 5))
