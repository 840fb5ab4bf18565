"""The heatmap's picture: coloured cells with names at its axes, a pointer and a mark."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QKeyEvent, QPainterPath, QPen, QResizeEvent
from PySide6.QtWidgets import QGraphicsPathItem, QGraphicsRectItem

from studio.gui.theme import current_theme, small_font

if TYPE_CHECKING:
    from collections.abc import Sequence

BoolArray: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]

_STEPS = {
    Qt.Key.Key_Left: (0, -1),
    Qt.Key.Key_Right: (0, 1),
    Qt.Key.Key_Up: (-1, 0),
    Qt.Key.Key_Down: (1, 0),
}


class CellPlot(pg.GraphicsView):  # type: ignore[misc]  # pyqtgraph has no types
    """Rows and columns of cells. Its items are made once and reused.

    Made of a view box and two axes and not of a PlotItem, which brings twenty widgets of menus.
    """

    pointed = Signal(object)
    """((row, column) | None): the cell under the pointer."""
    clicked = Signal(object)
    """((row, column))."""
    stepped = Signal(int, int)
    """(rows, columns): an arrow key."""

    def __init__(self) -> None:
        super().__init__()
        self._shape = (0, 0)
        self._targets: tuple[str, ...] = ()
        self.setAccessibleName("Heatmap: targets down, layers across; arrow keys move the selection")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFrameShape(self.Shape.NoFrame)
        self.setMouseTracking(True)
        layout = pg.GraphicsLayout()
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        self.setCentralItem(layout)
        self._box = layout.addViewBox(row=0, col=1, enableMenu=False, enableMouse=False, invertY=True)
        self._axes = {side: pg.AxisItem(side, linkView=self._box) for side in ("left", "bottom")}
        layout.addItem(self._axes["left"], row=0, col=0)
        layout.addItem(self._axes["bottom"], row=1, col=1)
        for axis in self._axes.values():
            axis.setStyle(tickLength=0, tickAlpha=0)
        self._image = pg.ImageItem(axisOrder="row-major")
        self._gaps = QGraphicsPathItem()
        self._faults = pg.ScatterPlotItem(symbol="x", size=9, pxMode=True)
        self._mark = QGraphicsRectItem()
        self._mark.hide()
        for part in (self._image, self._gaps, self._faults, self._mark):
            self._box.addItem(part, ignoreBounds=True)
        self.scene().sigMouseMoved.connect(lambda at: self.pointed.emit(self._cell_at(at)))
        self.scene().sigMouseClicked.connect(self._click)

    def set_grid(self, targets: Sequence[str], layers: int) -> None:
        """Name the rows, number the columns, and rule the gaps between cells."""
        self._shape = (len(targets), layers)
        self._axes["left"].setTicks([[(row + 0.5, name) for row, name in enumerate(targets)]])
        self._targets = tuple(targets)
        self.take_font()
        self._box.setLimits(xMin=0, xMax=max(layers, 1), yMin=0, yMax=max(len(targets), 1))
        self.show_all()
        path = QPainterPath()
        for row in range(1, len(targets)):
            path.moveTo(0, row)
            path.lineTo(layers, row)
        for layer in range(1, layers):
            path.moveTo(layer, 0)
            path.lineTo(layer, len(targets))
        self._gaps.setPath(path)
        self.mark(None)

    def show_all(self) -> None:
        """Show all rows and columns."""
        rows, columns = self._shape
        self._box.setRange(QRectF(0, 0, max(columns, 1), max(rows, 1)), padding=0)

    def show_cells(self, colours: np.ndarray[Any, np.dtype[np.uint8]], faults: BoolArray) -> None:
        """Show cell colours ``[rows, columns, 4]`` (RGBA) and a cross in every faulty cell."""
        if colours.size:
            self._image.setImage(colours, autoLevels=False, levels=None)
            self._image.setRect(QRectF(0, 0, self._shape[1], self._shape[0]))
        rows, columns = np.nonzero(faults)
        self._faults.setData(x=columns + 0.5, y=rows + 0.5)

    def mark(self, cell: tuple[int, int] | None) -> None:
        """Draw a frame around a cell, or none."""
        self._mark.setVisible(cell is not None)
        if cell is not None:
            self._mark.setRect(QRectF(cell[1], cell[0], 1, 1))

    def take_colours(self) -> None:
        """Follow the theme."""
        theme = current_theme()
        self.setBackground(theme.window)
        for axis in self._axes.values():
            axis.setPen(None)
            axis.setTextPen(theme.faint)
        self._gaps.setPen(_line(theme.window, 1))
        self._mark.setPen(_line(theme.text, 2))
        self._faults.setPen(pg.mkPen(theme.danger, width=1))
        self._faults.setBrush(pg.mkBrush(theme.danger))

    def take_font(self) -> None:
        """Write the axes in the widget's font and give them the room it takes."""
        font = small_font(self.font())
        metrics = QFontMetrics(font)
        for axis in self._axes.values():
            axis.setStyle(tickFont=font)
        widest = max((metrics.horizontalAdvance(name) for name in self._targets), default=0)
        self._axes["left"].setWidth(widest + 12)
        self._axes["bottom"].setHeight(metrics.height() + 6)
        self.setMinimumHeight(len(self._targets) * metrics.ascent() + metrics.height() + 6)
        self._number_layers()

    def _number_layers(self) -> None:
        """Write numbers at as many layers as there is room for."""
        layers = self._shape[1]
        room = (self.width() - self._axes["left"].width()) / max(layers, 1)
        text = QFontMetrics(small_font(self.font())).horizontalAdvance(f" {layers} ")
        every = next((step for step in (1, 2, 5, 10, 20) if step * room >= text), 50)
        ticks = [(layer + 0.5, str(layer)) for layer in range(0, layers, every)]
        self._axes["bottom"].setTicks([ticks])

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Choose which layers to number at the new width."""
        super().resizeEvent(event)
        if hasattr(self, "_axes"):  # pyqtgraph resizes while it is being made
            self._number_layers()

    def centre_of(self, row: int, column: int) -> QPointF:
        """Return where a cell's middle is, in this widget's pixels."""
        return QPointF(self.mapFromScene(self._box.mapViewToScene(QPointF(column + 0.5, row + 0.5))))

    def _cell_at(self, position: QPointF) -> tuple[int, int] | None:
        if not self._box.sceneBoundingRect().contains(position):
            return None
        point = self._box.mapSceneToView(position)
        row, column = int(np.floor(point.y())), int(np.floor(point.x()))
        return (row, column) if 0 <= row < self._shape[0] and 0 <= column < self._shape[1] else None

    def _click(self, event: Any) -> None:
        cell = self._cell_at(event.scenePos())
        if cell is not None and event.button() == Qt.MouseButton.LeftButton:
            self.clicked.emit(cell)

    def wheelEvent(self, event: Any) -> None:
        """Zoom along the layers with Ctrl; without, let the surroundings scroll."""
        if not event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            event.ignore()
            return
        at = self._box.mapSceneToView(self.mapToScene(event.position().toPoint()))
        self._box.scaleBy(x=0.85 ** (event.angleDelta().y() / 120), center=at)
        event.accept()

    def mouseDoubleClickEvent(self, event: Any) -> None:
        """Show all layers again."""
        super().mouseDoubleClickEvent(event)
        self.show_all()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Move the selection."""
        if event.key() in _STEPS:
            self.stepped.emit(*_STEPS[Qt.Key(event.key())])
        else:
            super().keyPressEvent(event)

    def leaveEvent(self, event: QEvent) -> None:
        """Forget what was pointed at."""
        super().leaveEvent(event)
        self.pointed.emit(None)


def _line(colour: str, width: float) -> QPen:
    """Return a pen whose width is in pixels, whatever the zoom."""
    pen = QPen(QColor(colour), width)
    pen.setCosmetic(True)
    return pen
