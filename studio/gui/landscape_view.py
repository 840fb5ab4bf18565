"""The loss over two scales as a contour plot, with the point where the two faders stand, to be dragged."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFocusEvent, QKeyEvent, QPen
from PySide6.QtWidgets import QGraphicsPathItem

from studio.gui.colour_scale import colour_table
from studio.gui.contours import contours, levels_of, surface
from studio.gui.plot_view import PlotView
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from studio.gui.contours import Doubles

FINE = 160
"""How many pixels a side the surface is drawn in: the values between the measured ones are interpolated."""

STEP, LARGE_STEP = 0.01, 0.1

_STEPS = {
    Qt.Key.Key_Left: (-1, 0),
    Qt.Key.Key_Right: (1, 0),
    Qt.Key.Key_Up: (0, 1),
    Qt.Key.Key_Down: (0, -1),
}


class LandscapeView(PlotView):
    """One scale across, the other up. Its setters never emit; its signals come from the user alone.

    The mouse drags the point; arrow keys move it by 0.01, with Shift by 0.1. Home goes to the lowest point.
    """

    moved = Signal(float, float)
    """(x, y): on every move."""
    drag_started = Signal()
    """A drag or a held key begins; one undo step ends with `drag_finished`."""
    drag_finished = Signal()
    """It ended."""
    pointed = Signal(object)
    """((x, y, loss) | None): what is under the mouse."""

    def __init__(self) -> None:
        super().__init__(top=8, right=12, widest="-0.00", background="window")
        self._x = self._y = np.zeros(0)
        self._losses = np.zeros((0, 0))
        self._point = (0.0, 0.0)
        self._dragging = self._key_held = False
        self.setAccessibleName("Landscape of the loss; arrow keys move the point")
        self.setMinimumSize(260, 220)
        self.setMouseTracking(True)
        self._image = pg.ImageItem(axisOrder="row-major")
        self._lines = QGraphicsPathItem()
        self._across, self._up = pg.InfiniteLine(angle=0), pg.InfiniteLine(angle=90)
        self._lowest = pg.ScatterPlotItem(size=11, pxMode=True, symbol="+")
        self._here = pg.ScatterPlotItem(size=15, pxMode=True)
        for item in (self._image, self._lines, self._across, self._up, self._lowest, self._here):
            self.box.addItem(item, ignoreBounds=True)
        self.dress()
        self.clear_landscape()

    @property
    def point(self) -> tuple[float, float]:
        """Where the two faders stand."""
        return self._point

    @property
    def lowest(self) -> tuple[float, float, float] | None:
        """Where the measured loss is lowest, as (x, y, loss); None while nothing is known."""
        if not self._losses.size:
            return None
        row, column = np.unravel_index(int(np.nanargmin(self._losses)), self._losses.shape)
        return float(self._x[column]), float(self._y[row]), float(self._losses[row, column])

    def clear_landscape(self) -> None:
        """Show nothing but the point."""
        self.set_landscape(np.array([-1.0, 1.0]), np.array([-1.0, 1.0]), np.zeros((0, 0)))

    def set_landscape(self, x: Doubles, y: Doubles, losses: Doubles) -> None:
        """Show losses ``[Y, X]`` over ascending scales; none at all where they are not known."""
        self._x, self._y, self._losses = x, y, losses
        self.box.setRange(xRange=(x[0], x[-1]), yRange=(y[0], y[-1]), padding=0)
        self._draw()

    def set_names(self, x: str, y: str) -> None:
        """Name the two channels."""
        self.set_titles(left=y, bottom=x)

    def set_point(self, x: float, y: float) -> None:
        """Put the point where the faders stand; it may lie outside of what is shown."""
        self._point = (x, y)
        self._here.setData([x], [y])
        self._across.setPos(y)
        self._up.setPos(x)
        loss = self.loss_at(x, y)
        said = f"point at {x:.2f}, {y:.2f}"
        self.setAccessibleDescription(said if loss is None else f"{said}: loss {loss:.3f}")

    def loss_at(self, x: float, y: float) -> float | None:
        """Return the loss between the measured points; None outside of them."""
        if not self._losses.size or not (self._x[0] <= x <= self._x[-1] and self._y[0] <= y <= self._y[-1]):
            return None
        return float(surface(self._x, self._y, self._losses, np.array([x]), np.array([y]))[0, 0])

    def position_of(self, x: float, y: float) -> QPointF:
        """Return where a point is, in this widget's pixels."""
        return QPointF(self.mapFromScene(self.box.mapViewToScene(QPointF(x, y))))

    # The mouse and the keys

    def _point_at(self, position: QPointF) -> tuple[float, float]:
        """Return the scales at a pixel, in hundredths, within what is shown."""
        at = self.box.mapSceneToView(self.mapToScene(position.toPoint()))
        x = min(max(float(at.x()), self._x[0]), self._x[-1])
        y = min(max(float(at.y()), self._y[0]), self._y[-1])
        return round(x, 2), round(y, 2)

    def _move(self, x: float, y: float) -> None:
        if (x, y) != self._point:
            self.set_point(x, y)
            self.moved.emit(x, y)

    def mousePressEvent(self, event: Any) -> None:
        """Begin to drag: the point comes to the mouse."""
        if event.button() == Qt.MouseButton.LeftButton and self._losses.size:
            self._dragging = True
            self.setFocus()
            self.drag_started.emit()
            self._move(*self._point_at(event.position()))
            event.accept()

    def mouseMoveEvent(self, event: Any) -> None:
        """Drag, or say what is under the mouse."""
        x, y = self._point_at(event.position())
        if self._dragging:
            self._move(x, y)
        loss = self.loss_at(x, y)
        self.pointed.emit(None if loss is None else (x, y, loss))

    def mouseReleaseEvent(self, event: Any) -> None:
        """End the drag."""
        if self._dragging and event.button() == Qt.MouseButton.LeftButton:
            self._dragging = False
            self.drag_finished.emit()

    def leaveEvent(self, event: QEvent) -> None:
        """Forget what was pointed at."""
        super().leaveEvent(event)
        self.pointed.emit(None)

    def wheelEvent(self, event: Any) -> None:
        """Let the surroundings scroll."""
        event.ignore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the point; a held key is one drag."""
        key = Qt.Key(event.key())
        if key not in _STEPS and key != Qt.Key.Key_Home:
            super().keyPressEvent(event)
            return
        if not self._key_held:
            self._key_held = True
            self.drag_started.emit()
        if key == Qt.Key.Key_Home:
            if self.lowest is not None:
                self._move(*self.lowest[:2])
            return
        step = LARGE_STEP if event.modifiers() & Qt.KeyboardModifier.ShiftModifier else STEP
        right, up = _STEPS[key]
        self._move(round(self._point[0] + right * step, 4), round(self._point[1] + up * step, 4))

    def keyReleaseEvent(self, event: QKeyEvent) -> None:
        """End the drag of a held key."""
        if not event.isAutoRepeat():
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

    # Looks

    def _draw(self) -> None:
        known = bool(self._losses.size)
        for item in (self._image, self._lines, self._lowest):
            item.setVisible(known)
        if not known:
            return
        x, y = (np.linspace(axis[0], axis[-1], FINE) for axis in (self._x, self._y))
        fine = surface(self._x, self._y, self._losses, x, y)
        low, high = float(np.nanmin(fine)), float(np.nanmax(fine))
        share = (fine - low) / (high - low) if high > low else np.zeros_like(fine)
        table = colour_table(current_theme().heat)
        self._image.setImage(table[np.rint(share * 255).astype(np.intp)], autoLevels=False, levels=None)
        self._image.setRect(QRectF(x[0], y[0], x[-1] - x[0], y[-1] - y[0]))
        self._lines.setPath(contours(self._x, self._y, self._losses, levels_of(self._losses)))
        if self.lowest is not None:
            self._lowest.setData([self.lowest[0]], [self.lowest[1]])
        self.set_point(*self._point)

    def take_colours(self) -> None:
        """Colour lines and points."""
        theme = current_theme()
        line = QColor(theme.text)
        line.setAlphaF(0.28)
        pen = QPen(line, 1)
        pen.setCosmetic(True)
        self._lines.setPen(pen)
        for guide in (self._across, self._up):
            guide.setPen(pg.mkPen(theme.faint, width=1, style=Qt.PenStyle.DotLine))
        self._here.setPen(pg.mkPen(theme.raised, width=2))
        self._here.setBrush(pg.mkBrush(theme.accent))
        self._lowest.setPen(pg.mkPen(theme.text, width=1))
        self._lowest.setBrush(pg.mkBrush(theme.text))
        self._draw()
