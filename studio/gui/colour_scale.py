"""The heatmap's colours: a table made from the theme's stops, a range, and the bar that shows both."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from PySide6.QtCore import QRectF, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QLinearGradient, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QSizePolicy, QWidget

from studio.gui.theme import current_theme, small_font

if TYPE_CHECKING:
    from studio.contracts import FloatArray


@lru_cache(maxsize=4)
def colour_table(stops: tuple[str, ...]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return 256 RGBA colours ``[256, 4]`` between evenly spaced stops."""
    known = np.array([QColor(stop).getRgb() for stop in stops], np.float64)  # [stops, 4]
    where = np.linspace(0, len(stops) - 1, 256)
    channels = [np.interp(where, np.arange(len(stops)), known[:, channel]) for channel in range(4)]
    return np.rint(np.stack(channels, axis=1)).astype(np.uint8)


def colour_range(values: FloatArray) -> tuple[float, float]:
    """Return the range that colours span for finite values. It holds 0; of no values it is (0, 0)."""
    if not values.size:
        return 0.0, 0.0
    return min(0.0, float(values.min())), float(values.max())


def even_range(values: FloatArray) -> tuple[float, float]:
    """Return a range as far below 0 as above it that holds finite values."""
    most = float(np.abs(values).max(initial=0.0))
    return -most, most


class ColourBar(QWidget):
    """A bar of the colours between the two numbers they stand for."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._low = self._high = "0"
        self._diverging = False
        self.setAccessibleName("Colour scale")
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)

    def set_range(self, low: float, high: float, unit: str, *, diverging: bool = False) -> None:
        """Show what the two ends mean, and whether nothing lies in the middle."""
        self._diverging = diverging
        self._low, self._high = f"{low:.3g}", f"{high:.3g} {unit}".rstrip()
        self.setAccessibleDescription(f"from {self._low} to {self._high}")
        self.updateGeometry()
        self.update()

    def sizeHint(self) -> QSize:
        """Keep one width while the numbers change."""
        return QSize(self._numbers_width() + 130, max(20, self.fontMetrics().height()))

    def minimumSizeHint(self) -> QSize:
        """Keep both numbers and a short bar."""
        return QSize(self._numbers_width() + 40, self.sizeHint().height())

    def _numbers_width(self) -> int:
        return 2 * QFontMetrics(small_font(self.font())).horizontalAdvance("-0.000") + 12

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint low, bar, high."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setFont(small_font(self.font()))
        widest = painter.fontMetrics().horizontalAdvance("-0.000")
        left = max(widest, painter.fontMetrics().horizontalAdvance(self._low))
        right = max(widest, painter.fontMetrics().horizontalAdvance(self._high))
        bar = QRectF(left + 6, self.height() / 2 - 4, self.width() - left - right - 12, 8)
        gradient = QLinearGradient(bar.topLeft(), bar.topRight())
        stops = theme.slopes if self._diverging else theme.heat
        for index, stop in enumerate(stops):
            gradient.setColorAt(index / (len(stops) - 1), QColor(stop))
        painter.setBrush(gradient)
        painter.setPen(QPen(QColor(theme.line), 1))
        painter.drawRect(bar.adjusted(0.5, 0.5, -0.5, -0.5))
        painter.setPen(QColor(theme.faint))
        middle = Qt.AlignmentFlag.AlignVCenter
        low = QRectF(0, 0, left, self.height())
        painter.drawText(low, middle | Qt.AlignmentFlag.AlignRight, self._low)
        high = QRectF(bar.right() + 6, 0, right + 2, self.height())
        painter.drawText(high, middle | Qt.AlignmentFlag.AlignLeft, self._high)
