"""The error over the rank: what a cut leaves out, drawn before a rank is chosen, and the choice itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QEvent, QPointF, Qt, Signal
from PySide6.QtGui import QColor, QFontMetrics, QKeyEvent

from studio.gui.theme import current_theme, small_font

if TYPE_CHECKING:
    from studio.lora.algebra.singular import Doubles

LARGE_STEP = 8
"""How many ranks a page key moves."""

_STEPS = {
    Qt.Key.Key_Left: -1,
    Qt.Key.Key_Right: 1,
    Qt.Key.Key_PageUp: LARGE_STEP,
    Qt.Key.Key_PageDown: -LARGE_STEP,
}


class ErrorCurve(pg.GraphicsView):  # type: ignore[misc]  # pyqtgraph has no types
    """Rank across, error down to nothing. Its setters never emit; its signal comes from the user alone.

    A click or a drag chooses a rank; so do left and right, by one, the page keys, by 8, Home and End.
    """

    rank_chosen = Signal(int)
    """(rank), at least 1."""

    def __init__(self) -> None:
        super().__init__()
        self._curve: Doubles = np.zeros(0)
        self._rank = 0
        self._dragging = False
        self.setAccessibleName("Error over the rank; arrow keys choose a rank")
        self.setToolTip("What a cut to each rank leaves out. Click or use the arrow keys to choose a rank.")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFrameShape(self.Shape.NoFrame)
        self.setMinimumSize(300, 150)
        layout = pg.GraphicsLayout()
        layout.setContentsMargins(0, 4, 8, 0)
        layout.setSpacing(0)
        self.setCentralItem(layout)
        self._box = layout.addViewBox(row=0, col=1, enableMenu=False, enableMouse=False)
        self._axes = {side: pg.AxisItem(side, linkView=self._box) for side in ("left", "bottom")}
        layout.addItem(self._axes["left"], row=0, col=0)
        layout.addItem(self._axes["bottom"], row=1, col=1)
        for axis in self._axes.values():
            axis.setStyle(tickLength=-4)
            axis.enableAutoSIPrefix(False)
        self._line = pg.PlotCurveItem()
        self._chosen = pg.InfiniteLine(angle=90)
        self._point = pg.ScatterPlotItem(size=9, pxMode=True)
        for item in (self._line, self._chosen, self._point):
            self._box.addItem(item, ignoreBounds=True)
        self._take_colours()
        self._take_font()
        self._draw()

    @property
    def rank(self) -> int:
        """The rank that is marked; 0 for none."""
        return self._rank

    def set_curve(self, curve: Doubles) -> None:
        """Show the error at rank 0, 1, 2 and so on, as shares of the norm; empty for none known."""
        self._curve = curve
        self._draw()

    def set_rank(self, rank: int) -> None:
        """Mark a rank; 0 marks none."""
        self._rank = rank
        self._draw()

    def position_of(self, rank: int) -> QPointF:
        """Return where a rank's point is, in this widget's pixels."""
        point = QPointF(rank, 100 * self._error(rank))
        return QPointF(self.mapFromScene(self._box.mapViewToScene(point)))

    @property
    def _last(self) -> int:
        return len(self._curve) - 1

    def _error(self, rank: int) -> float:
        return float(self._curve[min(rank, self._last)]) if self._last >= 0 else 0.0

    def _draw(self) -> None:
        known, marked = self._last > 0, self._rank > 0
        self._line.setData(np.arange(len(self._curve)), 100 * self._curve)
        self._box.setRange(xRange=(0, max(self._last, 1)), yRange=(0, 104), padding=0.02)
        for item in (self._chosen, self._point):
            item.setVisible(known and marked)
        if known and marked:
            at = min(self._rank, self._last)
            self._chosen.setPos(at)
            self._point.setData([at], [100 * self._error(at)])
        self.setEnabled(known)
        said = f"rank {self._rank}, error {self._error(self._rank):.1%}" if marked else "no rank is chosen"
        self.setAccessibleDescription(said if known else "not known yet")

    def _choose(self, rank: int) -> None:
        rank = max(1, min(self._last, rank))
        if self._last > 0 and rank != self._rank:
            self.set_rank(rank)
            self.rank_chosen.emit(rank)

    def _rank_at(self, position: QPointF) -> int:
        return round(float(self._box.mapSceneToView(self.mapToScene(position.toPoint())).x()))

    def mousePressEvent(self, event: Any) -> None:
        """Choose the rank under the mouse."""
        if event.button() == Qt.MouseButton.LeftButton:
            self._dragging = True
            self._choose(self._rank_at(event.position()))
            event.accept()

    def mouseMoveEvent(self, event: Any) -> None:
        """Go on choosing while the button is down."""
        if self._dragging:
            self._choose(self._rank_at(event.position()))

    def mouseReleaseEvent(self, event: Any) -> None:
        """Stop choosing."""
        self._dragging = False

    def wheelEvent(self, event: Any) -> None:
        """Let the surroundings scroll."""
        event.ignore()

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Choose another rank."""
        places = {Qt.Key.Key_Home: 1, Qt.Key.Key_End: self._last}
        key = Qt.Key(event.key())
        if key in _STEPS:
            self._choose((self._rank or self._last) + _STEPS[key])
        elif key in places:
            self._choose(places[key])
        else:
            super().keyPressEvent(event)

    def _take_colours(self) -> None:
        theme = current_theme()
        self.setBackground(theme.panel)
        for axis in self._axes.values():
            axis.setPen(theme.line)
            axis.setTextPen(theme.faint)
        self._line.setPen(pg.mkPen(theme.blend, width=2))
        self._line.setFillLevel(0)
        fill = QColor(theme.blend)
        fill.setAlphaF(0.12)
        self._line.setBrush(fill)
        self._chosen.setPen(pg.mkPen(theme.faint, width=1, style=Qt.PenStyle.DashLine))
        self._point.setPen(pg.mkPen(theme.panel, width=1.5))
        self._point.setBrush(pg.mkBrush(theme.accent))

    def _take_font(self) -> None:
        font = small_font(self.font())
        metrics = QFontMetrics(font)
        for side, title in (("left", "error %"), ("bottom", "rank")):
            axis = self._axes[side]
            axis.setStyle(tickFont=font)
            axis.setLabel(title, **{"font-size": f"{font.pointSizeF():.1f}pt"})
        self._axes["left"].setWidth(metrics.horizontalAdvance("100") + 2 * metrics.height())
        self._axes["bottom"].setHeight(2 * metrics.height() + 10)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme and the size of the font."""
        super().changeEvent(event)
        if hasattr(self, "_point"):  # pyqtgraph changes while it is being made
            if event.type() == QEvent.Type.PaletteChange:
                self._take_colours()
            elif event.type() == QEvent.Type.FontChange:
                self._take_font()
