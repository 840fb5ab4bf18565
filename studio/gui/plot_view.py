"""What the desk's plots have in common: one box with two axes, which follow the theme and the font."""

from __future__ import annotations

import pyqtgraph as pg
from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QFontMetrics

from studio.gui.theme import current_theme, small_font


class PlotView(pg.GraphicsView):  # type: ignore[misc]  # pyqtgraph has no types
    """A box to draw in, with an axis on the left and one below.

    What it holds is added to `box`, and then `dress` is called, once: a new theme or font is followed from
    then on.

    Parameters
    ----------
    top, right
        The margins, in pixels.
    widest
        The widest number on the left axis.
    titles
        What the axes are called, the left one's first.
    background
        Which colour of the theme it lies on.
    """

    def __init__(
        self,
        *,
        top: int,
        right: int,
        widest: str,
        titles: tuple[str, str] = ("", ""),
        background: str = "panel",
    ) -> None:
        self._dressed = False  # first: pyqtgraph changes while it is being made
        super().__init__()
        self._widest = widest
        self._titles = titles
        self._surface = background
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setFrameShape(self.Shape.NoFrame)
        layout = pg.GraphicsLayout()
        layout.setContentsMargins(0, top, right, 0)
        layout.setSpacing(0)
        self.setCentralItem(layout)
        self.box = layout.addViewBox(row=0, col=1, enableMenu=False, enableMouse=False)
        self.axes = {side: pg.AxisItem(side, linkView=self.box) for side in ("left", "bottom")}
        layout.addItem(self.axes["left"], row=0, col=0)
        layout.addItem(self.axes["bottom"], row=1, col=1)
        for axis in self.axes.values():
            axis.setStyle(tickLength=-4)
            axis.enableAutoSIPrefix(False)

    @property
    def is_dressed(self) -> bool:
        """Whether all that it holds is there."""
        return self._dressed

    def dress(self) -> None:
        """Take colours and sizes from the theme and the font."""
        self._dressed = True
        self._take_colours()
        self._take_font()

    def set_titles(self, left: str, bottom: str) -> None:
        """Call the axes something else."""
        self._titles = left, bottom
        size = f"{small_font(self.font()).pointSizeF():.1f}pt"
        for side, title in zip(("left", "bottom"), self._titles, strict=True):
            self.axes[side].setLabel(title, **{"font-size": size})

    def take_colours(self) -> None:
        """Colour what is held; for those who draw here to fill."""

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme and the size of the font."""
        super().changeEvent(event)
        if self._dressed:
            if event.type() == QEvent.Type.PaletteChange:
                self._take_colours()
            elif event.type() == QEvent.Type.FontChange:
                self._take_font()

    def _take_colours(self) -> None:
        theme = current_theme()
        self.setBackground(getattr(theme, self._surface))
        for axis in self.axes.values():
            axis.setPen(theme.line)
            axis.setTextPen(theme.faint)
        self.take_colours()

    def _take_font(self) -> None:
        font = small_font(self.font())
        metrics = QFontMetrics(font)
        for axis in self.axes.values():
            axis.setStyle(tickFont=font)
        if any(self._titles):
            self.set_titles(*self._titles)
        self.axes["left"].setWidth(metrics.horizontalAdvance(self._widest) + 2 * metrics.height())
        self.axes["bottom"].setHeight(2 * metrics.height() + 10)
