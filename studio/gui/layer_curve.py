"""A curve of gains over the layers, as on a graphic equaliser: drawn by the mouse, moved by keys."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QEvent, QPointF, QRectF, QSize, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QFocusEvent,
    QKeyEvent,
    QMouseEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import QSizePolicy, QWidget

from studio.gui.layer_columns import RIGHT, column_rect, layer_at
from studio.gui.shapes import mixed
from studio.gui.theme import current_theme, small_font
from studio.lora.gains import curve

if TYPE_CHECKING:
    from studio.contracts import FloatArray

HIGHEST = 2.0
"""The gain at the upper end; beyond it only the number box reaches."""

STEP, LARGE_STEP = 0.05, 0.25
_MAGNETS = (0.0, 1.0)
_MAGNET_PIXELS = 3.0
_TOP, _BOTTOM = 9.0, 9.0

_CHANGES = {
    Qt.Key.Key_Up: STEP,
    Qt.Key.Key_Down: -STEP,
    Qt.Key.Key_PageUp: LARGE_STEP,
    Qt.Key.Key_PageDown: -LARGE_STEP,
}
_VALUES = {Qt.Key.Key_0: 0.0, Qt.Key.Key_1: 1.0, Qt.Key.Key_2: 2.0}


class LayerCurve(QWidget):
    """One bar a layer. Its setters never emit; its signals come from the user alone.

    The mouse draws bars while its button is down, and a double-click sets 1. Left and right choose a layer,
    up and down move it by 0.05, page keys by 0.25, the keys 0, 1 and 2 set it.
    """

    drawn = Signal(object)
    """({layer: gain}): the layers that one move changed."""
    layer_chosen = Signal(int)
    """(layer): the cursor stands on another one."""
    drag_started = Signal()
    """A stroke or a held key begins."""
    drag_finished = Signal()
    """It ended."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._lowest = self._mean = self._highest = np.zeros(0, np.float32)
        self._colour = QColor()
        self._layer = 0
        self._stroke: tuple[int, float] | None = None  # where the mouse was
        self._key_held = False
        self.setAccessibleName("Gain of each layer")
        self.setToolTip("Draw with the mouse. Double-click: back to 1.")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(200, 110)

    @property
    def layer(self) -> int:
        """The layer that keys change."""
        return self._layer

    def gain(self, layer: int) -> float | None:
        """Return the gain that a layer shows, the mean where targets differ; None where nothing acts."""
        known = layer < len(self._mean) and np.isfinite(self._mean[layer])
        return float(self._mean[layer]) if known else None

    def set_gains(self, gains: FloatArray, colour: QColor) -> None:
        """Show gains ``[targets, layers]``: their mean and how far they lie apart. NaN where nothing acts."""
        layers, acts = gains.shape[1], np.isfinite(gains)
        count = acts.sum(axis=0)
        with np.errstate(invalid="ignore", divide="ignore"):
            self._mean = np.where(acts, gains, 0).sum(axis=0) / count  # NaN where nothing acts
        self._lowest = np.where(acts, gains, np.inf).min(axis=0, initial=np.inf)
        self._highest = np.where(acts, gains, -np.inf).max(axis=0, initial=-np.inf)
        self._colour = colour
        self._layer = min(self._layer, max(layers - 1, 0))
        self.setEnabled(bool(count.any()))
        self._describe()
        self.update()

    def set_layer(self, layer: int) -> None:
        """Put the cursor on a layer."""
        self._layer = max(0, min(len(self._mean) - 1, layer))
        self._describe()
        self.update()

    def _describe(self) -> None:
        gain = self.gain(self._layer)
        self.setAccessibleDescription(
            f"layer {self._layer}, " + ("nothing acts here" if gain is None else f"gain {gain:.2f}")
        )

    def _choose(self, layer: int) -> None:
        if layer != self._layer:
            self.set_layer(layer)
            self.layer_chosen.emit(self._layer)

    # From pixels to gains

    @property
    def _floor(self) -> float:
        """The gain at the lower end: below 0 only while some gain is."""
        return min(0.0, float(self._lowest.min(initial=0.0)))

    def _y_of(self, gain: float) -> float:
        share = (max(self._floor, min(HIGHEST, gain)) - self._floor) / (HIGHEST - self._floor)
        return self.height() - _BOTTOM - share * (self.height() - _TOP - _BOTTOM)

    def _gain_at(self, y: float) -> float:
        """Return the gain at a pixel, in hundredths; near 0 and 1 exactly those."""
        for magnet in _MAGNETS:
            if abs(y - self._y_of(magnet)) <= _MAGNET_PIXELS:
                return magnet
        share = (self.height() - _BOTTOM - y) / max(self.height() - _TOP - _BOTTOM, 1.0)
        return round(self._floor + max(0.0, min(1.0, share)) * (HIGHEST - self._floor), 2)

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Begin a stroke here."""
        if event.button() == Qt.MouseButton.LeftButton:
            self.drag_started.emit()
            self._draw(event.position())

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Draw on, in a straight line from where the mouse was."""
        if self._stroke is not None:
            self._draw(event.position())

    def mouseReleaseEvent(self, event: QMouseEvent) -> None:
        """End the stroke."""
        if self._stroke is not None and event.button() == Qt.MouseButton.LeftButton:
            self._stroke = None
            self.drag_finished.emit()

    def mouseDoubleClickEvent(self, event: QMouseEvent) -> None:
        """Go back to 1, as trained."""
        layer = layer_at(self.width(), len(self._mean), event.position().x())
        self._choose(layer)
        self.drawn.emit({layer: 1.0})

    def _draw(self, at: QPointF) -> None:
        layers = len(self._mean)
        layer, gain = layer_at(self.width(), layers, at.x()), self._gain_at(at.y())
        before = self._stroke or (layer, gain)
        self._stroke = (layer, gain)
        line = curve({before[0]: before[1], layer: gain}, layers)
        self._choose(layer)
        first, last = sorted((before[0], layer))
        self.drawn.emit({one: line[one] for one in range(first, last + 1)})

    # Keys

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Choose a layer, or change it; a held key is one drag."""
        key, gain = Qt.Key(event.key()), self.gain(self._layer)
        last = len(self._mean) - 1
        places = {
            Qt.Key.Key_Left: self._layer - 1,
            Qt.Key.Key_Right: self._layer + 1,
            Qt.Key.Key_Home: 0,
            Qt.Key.Key_End: last,
        }
        if key in places:
            self._choose(max(0, min(last, places[key])))
        elif (key in _CHANGES or key in _VALUES) and gain is not None:
            if not self._key_held:
                self._key_held = True
                self.drag_started.emit()
            self.drawn.emit({self._layer: _VALUES.get(key, round(gain + _CHANGES.get(key, 0.0), 4))})
        else:
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """End the drag of a held key."""
        if not event.isAutoRepeat():
            self._release_key()
        super().keyReleaseEvent(event)

    def focusInEvent(self, event: QFocusEvent) -> None:
        """Show the cursor as what keys change."""
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: QFocusEvent) -> None:
        """End the drag of a key whose release goes elsewhere."""
        self._release_key()
        super().focusOutEvent(event)
        self.update()

    def _release_key(self) -> None:
        if self._key_held:
            self._key_held = False
            self.drag_finished.emit()

    # Looks

    def sizeHint(self) -> QSize:
        """Ask for enough room to draw in."""
        return QSize(560, 150)

    def changeEvent(self, event: QEvent) -> None:
        """Repaint when it is enabled or disabled."""
        super().changeEvent(event)
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the ground, its scale, a bar for each layer, and the cursor."""
        theme = current_theme()
        painter = QPainter(self)
        right = self.width() - RIGHT
        painter.fillRect(QRectF(0, 0, right, self.height()), QColor(theme.panel))
        painter.setFont(small_font(self.font()))
        for gain in (0.0, 1.0, 2.0):
            y = round(self._y_of(gain)) + 0.5
            painter.setPen(QPen(mixed(theme.line, theme.faint, 0.5 if gain == 1 else 0.0), 1))
            painter.drawLine(QPointF(0, y), QPointF(right, y))
            painter.setPen(QColor(theme.faint))
            label = QRectF(right + 6, y - 10, RIGHT - 6, 20)
            painter.drawText(label, Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft, f"{gain:g}")
        for layer in range(len(self._mean)):
            self._paint_layer(painter, layer)
        if len(self._mean) and self.isEnabled():
            cursor = column_rect(self.width(), len(self._mean), self._layer, 0.5, self.height() - 1)
            painter.setPen(QPen(QColor(theme.accent if self.hasFocus() else theme.faint), 1))
            painter.setBrush(Qt.BrushStyle.NoBrush)
            painter.drawRect(cursor.adjusted(-0.5, 0, 0.5, 0))

    def _paint_layer(self, painter: QPainter, layer: int) -> None:
        """Paint a bar that is full up to the lowest gain of the targets, and pale up to the highest."""
        if self.gain(layer) is None:
            return
        theme = current_theme()
        low, high = float(self._lowest[layer]), float(self._highest[layer])
        column = column_rect(self.width(), len(self._mean), layer, 0, 0)
        for gain, paleness in ((high, 0.7), (low, 0.7 if low < 0 < high else 0.15)):
            zero, end = self._y_of(0.0), self._y_of(gain)
            bar = QRectF(column.left(), min(zero, end), column.width(), max(abs(end - zero), 1.5))
            colour = self._colour if gain >= 0 else QColor(theme.danger)
            painter.fillRect(bar, mixed(colour, theme.panel, paleness))
