"""The error over the rank: what a cut leaves out, drawn before a rank is chosen, and the choice itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF, Qt, Signal
from PySide6.QtGui import QColor, QKeyEvent

from studio.gui.plot_view import PlotView
from studio.gui.theme import current_theme

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


class ErrorCurve(PlotView):
    """Rank across, error down to nothing. Its setters never emit; its signal comes from the user alone.

    A click or a drag chooses a rank; so do left and right, by one, the page keys, by 8, Home and End.
    """

    rank_chosen = Signal(int)
    """(rank), at least 1."""

    def __init__(self) -> None:
        super().__init__(top=4, right=8, widest="100", titles=("error %", "rank"))
        self._curve: Doubles = np.zeros(0)
        self._rank = 0
        self._dragging = False
        self.setAccessibleName("Error over the rank; arrow keys choose a rank")
        self.setToolTip("What a cut to each rank leaves out. Click or use the arrow keys to choose a rank.")
        self.setMinimumSize(300, 150)
        self._line = pg.PlotCurveItem()
        self._chosen = pg.InfiniteLine(angle=90)
        self._point = pg.ScatterPlotItem(size=9, pxMode=True)
        for item in (self._line, self._chosen, self._point):
            self.box.addItem(item, ignoreBounds=True)
        self.dress()
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
        return QPointF(self.mapFromScene(self.box.mapViewToScene(point)))

    @property
    def _last(self) -> int:
        return len(self._curve) - 1

    def _error(self, rank: int) -> float:
        return float(self._curve[min(rank, self._last)]) if self._last >= 0 else 0.0

    def _draw(self) -> None:
        known, marked = self._last > 0, self._rank > 0
        self._line.setData(np.arange(len(self._curve)), 100 * self._curve)
        self.box.setRange(xRange=(0, max(self._last, 1)), yRange=(0, 104), padding=0.02)
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
        return round(float(self.box.mapSceneToView(self.mapToScene(position.toPoint())).x()))

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

    def take_colours(self) -> None:
        """Colour lines and points."""
        theme = current_theme()
        self._line.setPen(pg.mkPen(theme.blend, width=2))
        self._line.setFillLevel(0)
        fill = QColor(theme.blend)
        fill.setAlphaF(0.12)
        self._line.setBrush(fill)
        self._chosen.setPen(pg.mkPen(theme.faint, width=1, style=Qt.PenStyle.DashLine))
        self._point.setPen(pg.mkPen(theme.panel, width=1.5))
        self._point.setBrush(pg.mkBrush(theme.accent))
