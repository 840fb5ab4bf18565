"""Contour lines of a surface that is known on a grid."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from PySide6.QtCore import QPointF
from PySide6.QtGui import QPainterPath

if TYPE_CHECKING:
    from typing import TypeAlias

    Doubles: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

LINES = 10
"""About how many lines there are."""

SIDE = 80
"""How many points a side the lines are followed through."""


def levels_of(heights: Doubles) -> Doubles:
    """Return the levels to draw: by how much of the surface lies below each, and closest at the bottom."""
    shares = np.linspace(0, 1, LINES + 2)[1:-1] ** 1.6
    levels: Doubles = np.quantile(heights[np.isfinite(heights)], shares)
    return levels


def surface(x: Doubles, y: Doubles, heights: Doubles, at_x: Doubles, at_y: Doubles) -> Doubles:
    """Return heights ``[Y, X]`` over evenly spaced places, interpolated at others: ``[at_y, at_x]``."""
    return interpolated(y, interpolated(x, heights.T, at_x).T, at_y)


def interpolated(places: Doubles, heights: Doubles, at: Doubles) -> Doubles:
    """Return heights ``[n, m]`` over evenly spaced places ``[n]`` at others within: ``[at, m]``.

    By the cubic of Catmull and Rom 1974 ("A class of local interpolating splines"), which goes through every
    point and is exact for parabolas; at the ends the surface goes on straight.
    """
    ends = 2 * heights[0] - heights[1], 2 * heights[-1] - heights[-2]
    points = np.concatenate([ends[0][np.newaxis], heights, ends[1][np.newaxis]])
    where = (at - places[0]) / (places[1] - places[0])
    first = np.clip(np.floor(where).astype(np.intp), 0, len(places) - 2)
    u = (where - first)[:, np.newaxis]
    a, b, c, d = (points[first + offset] for offset in range(4))
    curved: Doubles = b + u / 2 * ((c - a) + u * ((2 * a - 5 * b + 4 * c - d) + u * (3 * (b - c) + d - a)))
    return curved


def contours(x: Doubles, y: Doubles, heights: Doubles, levels: Doubles) -> QPainterPath:
    """Return the lines along which heights ``[Y, X]`` over ascending places have certain values."""
    fine_x, fine_y = (np.linspace(places[0], places[-1], SIDE) for places in (x, y))
    fine = surface(x, y, heights, fine_x, fine_y)
    path = QPainterPath()
    for level in levels:
        for line in pg.functions.isocurve(fine.T, float(level), connected=True):
            # isocurve counts columns and rows from the middle of the first cell
            across, up = (np.array(line) - 0.5).T / (SIDE - 1)
            points = zip(x[0] + across * (x[-1] - x[0]), y[0] + up * (y[-1] - y[0]), strict=True)
            for number, (right, above) in enumerate(points):
                if number:
                    path.lineTo(QPointF(right, above))
                else:
                    path.moveTo(QPointF(right, above))
    return path
