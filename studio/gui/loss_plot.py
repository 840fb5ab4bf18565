"""The loss over the steps of a run, as it learns: every step, their running mean, and the validation loss."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor, QFontMetrics

from studio.gui.plot_view import PlotView
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any, TypeAlias

    from PySide6.QtGui import QResizeEvent

    Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]
    Points: TypeAlias = Sequence[tuple[int, float]]

LONGEST_MEAN = 20.0
"""Over about how many steps the running mean goes at most; in short runs it is a tenth of them."""

MOST_POINTS = 2000
"""Of longer runs neighbouring steps are drawn as their mean: more is not to be seen."""

LEAST_LOSS = 1e-6
"""Where the logarithmic axis ends."""

_NICE = (1.0, 2.0, 5.0)


class LossPlot(PlotView):
    """Steps across, nats a token up, on a linear or a logarithmic axis. It shows and never emits.

    Parameters
    ----------
    summary
        What the bold line shows of the training losses ``[n]``: another ``[n]``.
    across
        What is counted across.
    """

    def __init__(self, summary: Callable[[Doubles], Doubles] | None = None, across: str = "step") -> None:
        super().__init__(top=6, right=10, widest="0.000", titles=("nats a token", across))
        self._summary = summary or running_mean
        self._train = self._validation = np.zeros((0, 2))
        self._log = False
        self.setAccessibleName("Loss over the steps")
        self.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        self.setMinimumSize(200, 90)
        self._steps, self._mean, self._measured = (pg.PlotCurveItem() for _ in range(3))
        self._points = pg.ScatterPlotItem(size=7, pxMode=True)
        for item in (self._steps, self._mean, self._measured, self._points):
            self.box.addItem(item, ignoreBounds=True)
        self.dress()
        self._draw()

    @property
    def log(self) -> bool:
        """Whether the axis is logarithmic."""
        return self._log

    def set_log(self, on: bool) -> None:
        """Choose the axis."""
        self._log = on
        self._draw()

    def set_losses(self, train: Points, validation: Points) -> None:
        """Show losses as ``(step, nats a token)``, in the order of the steps."""
        self._train, self._validation = _as_array(train), _as_array(validation)
        self._draw()

    def _draw(self) -> None:
        train = grouped(self._train)
        shown = {
            self._steps: train,
            self._mean: np.column_stack([train[:, 0], self._summary(train[:, 1])]),
            self._measured: self._validation,
            self._points: self._validation,
        }
        for item, points in shown.items():
            item.setData(points[:, 0], self._height(points[:, 1]))
        losses = np.concatenate([self._train[:, 1], self._validation[:, 1]])
        losses = losses[np.isfinite(losses)]
        steps = float(max(self._train[-1:, 0].max(initial=1), self._validation[-1:, 0].max(initial=1)))
        low, high = self._range(losses)
        self.box.setRange(xRange=(0, 1.02 * steps), yRange=(low, high), padding=0)
        self.axes["left"].setTicks([self._ticks(low, high)])
        self._describe()

    def _range(self, losses: Doubles) -> tuple[float, float]:
        """Return the ends of the axis, in what is drawn; they leave some air."""
        if not losses.size:
            losses = np.array([0.1, 1.0])
        heights = self._height(losses)
        low, high = float(heights.min()), float(heights.max())
        air = 0.06 * (high - low) or 0.1
        return (low - air if self._log else max(0.0, low - air)), high + air

    def _height(self, losses: Doubles) -> Doubles:
        heights: Doubles = np.log10(np.maximum(losses, LEAST_LOSS)) if self._log else losses
        return heights

    def _ticks(self, low: float, high: float) -> list[tuple[float, str]]:
        """Return the labelled places of the axis: round losses, as many as there is room for."""
        room = max(2, int(self.height() / (2.6 * QFontMetrics(self.font()).height())))
        ends = (10**low, 10**high) if self._log else (low, high)
        return [(float(self._height(np.array(loss))), f"{loss:.4g}") for loss in round_numbers(*ends, room)]

    def _describe(self) -> None:
        parts = [
            f"{name} {points[-1, 1]:.3f} at step {points[-1, 0]:.0f}"
            for name, points in (("training loss", self._train), ("validation loss", self._validation))
            if len(points)
        ]
        self.setAccessibleDescription(", ".join(parts) or "no step yet")

    def take_colours(self) -> None:
        """Colour lines and points."""
        theme = current_theme()
        pale = QColor(theme.blend)
        pale.setAlphaF(0.3)
        self._steps.setPen(pg.mkPen(pale, width=1))
        self._mean.setPen(pg.mkPen(theme.blend, width=2))
        measured = theme.adapter(0)
        self._measured.setPen(pg.mkPen(measured, width=1.5, style=Qt.PenStyle.DashLine))
        self._points.setPen(pg.mkPen(theme.panel, width=1))
        self._points.setBrush(pg.mkBrush(measured))

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Label as many places as there is room for now."""
        super().resizeEvent(event)
        if self.is_dressed and not self.closed:  # pyqtgraph resizes at its beginning and its end
            self._draw()


def running_mean(losses: Doubles) -> Doubles:
    """Return the exponential running mean ``[n]``, over more steps the more there are.

    The weights of the steps so far are scaled up to one (as Adam's are, https://arxiv.org/abs/1412.6980), so
    that the first steps count no more than later ones.
    """
    fresh = 1 / min(LONGEST_MEAN, max(1.0, len(losses) / 10))
    means, total, weight = np.empty_like(losses), 0.0, 0.0
    for index, loss in enumerate(losses):
        if math.isfinite(loss):
            total, weight = (1 - fresh) * total + fresh * loss, (1 - fresh) * weight + fresh
        means[index] = total / weight if weight else np.nan
    return means


def grouped(points: Doubles) -> Doubles:
    """Return the means of groups of neighbours where there are more than `MOST_POINTS` points."""
    size = -(-len(points) // MOST_POINTS)
    if size <= 1:
        return points
    starts = np.arange(0, len(points), size)
    counts = np.diff([*starts, len(points)])
    means: Doubles = np.add.reduceat(points, starts, axis=0) / counts[:, np.newaxis]
    means[:, 0] = points[starts + counts - 1, 0]  # a group stands at its last step
    return means


def round_numbers(low: float, high: float, most: int) -> list[float]:
    """Return at most `most` multiples of a round step between two numbers."""
    rough = max(high - low, 1e-12) / most
    power = 10 ** math.floor(math.log10(rough))
    step = next(nice * power for nice in (*_NICE, 10.0) if nice * power >= rough * (1 - 1e-9))
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


def _as_array(points: Points) -> Doubles:
    return np.array(points, np.float64).reshape(-1, 2)
