"""The gains of an adapter as a grid: one row a target, one column a layer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QEvent, QRectF, QSize, Qt, Signal
from PySide6.QtGui import QColor, QMouseEvent, QPainter, QPaintEvent
from PySide6.QtWidgets import QSizePolicy, QWidget

from studio.gui.layer_columns import RIGHT, column_rect, layer_at
from studio.gui.shapes import mixed
from studio.gui.theme import current_theme, small_font

if TYPE_CHECKING:
    from studio.contracts import FloatArray


class GainGrid(QWidget):
    """Colours each module by its gain: the ground at 0, the channel's colour at 1, darker beyond."""

    pointed = Signal(object)
    """((row, layer) | None): the cell under the mouse."""
    layer_chosen = Signal(int)
    """(layer): one of its cells was clicked."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._gains = np.zeros((0, 0), np.float32)
        self._lit: tuple[bool, ...] = ()
        self._colour = QColor()
        self.setAccessibleName("Gains: targets down, layers across")
        self.setMouseTracking(True)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    @property
    def row_height(self) -> int:
        """The height of a row, in pixels; whoever labels the rows keeps to it."""
        return self.fontMetrics().height() + 7

    def set_gains(self, gains: FloatArray, lit: tuple[bool, ...], colour: QColor) -> None:
        """Show gains ``[targets, layers]``, NaN where nothing acts; rows that are not `lit` step back."""
        resized = gains.shape != self._gains.shape
        self._gains, self._lit, self._colour = gains, lit, colour
        if resized:
            self.updateGeometry()
        self.update()

    def colour_of(self, gain: float) -> QColor:
        """Return the colour of a gain."""
        theme = current_theme()
        full = self._colour if gain >= 0 else QColor(theme.danger)
        if abs(gain) <= 1:
            return mixed(theme.panel, full, abs(gain))
        return mixed(full, theme.text, 0.5 * min(abs(gain) - 1, 1.0))

    def sizeHint(self) -> QSize:
        """Ask for the rows and the numbers of the layers under them."""
        return QSize(560, len(self._gains) * self.row_height + self._numbers_height())

    def minimumSizeHint(self) -> QSize:
        """Take no less."""
        return QSize(200, self.sizeHint().height())

    def _numbers_height(self) -> int:
        return self.fontMetrics().height() + 2

    def mousePressEvent(self, event: QMouseEvent) -> None:
        """Choose the layer."""
        cell = self._cell_at(event)
        if cell is not None and event.button() == Qt.MouseButton.LeftButton:
            self.layer_chosen.emit(cell[1])

    def mouseMoveEvent(self, event: QMouseEvent) -> None:
        """Tell what is pointed at."""
        self.pointed.emit(self._cell_at(event))

    def leaveEvent(self, event: QEvent) -> None:
        """Forget what was pointed at."""
        super().leaveEvent(event)
        self.pointed.emit(None)

    def _cell_at(self, event: QMouseEvent) -> tuple[int, int] | None:
        rows, layers = self._gains.shape
        row = int(event.position().y() // self.row_height)
        if not layers or not 0 <= row < rows or event.position().x() > self.width() - RIGHT:
            return None
        return row, layer_at(self.width(), layers, event.position().x())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the cells, and as many numbers of layers as there is room for."""
        theme = current_theme()
        painter = QPainter(self)
        rows, layers = self._gains.shape
        for row in range(rows):
            for layer in range(layers):
                gain = float(self._gains[row, layer])
                if np.isfinite(gain):
                    colour = self.colour_of(gain)
                    if not self._lit[row]:
                        colour = mixed(colour, theme.window, 0.65)
                    top = row * self.row_height + 1.0
                    cell = column_rect(self.width(), layers, layer, top, self.row_height - 2.0)
                    painter.fillRect(cell, colour)
        painter.setFont(small_font(self.font()))
        painter.setPen(QColor(theme.faint))
        room = (self.width() - RIGHT) / max(layers, 1)
        text = painter.fontMetrics().horizontalAdvance(f" {layers} ")
        every = next((step for step in (1, 2, 5, 10, 20) if step * room >= text), 50)
        for layer in range(0, layers, every):
            below = column_rect(
                self.width(), layers, layer, rows * self.row_height + 1.0, self._numbers_height()
            )
            wide = QRectF(below.center().x() - text, below.top(), 2 * text, below.height())
            painter.drawText(wide, Qt.AlignmentFlag.AlignCenter, str(layer))
