"""Where the columns of the layers stand: the curve and the grid below it share this, so that they align."""

from __future__ import annotations

from PySide6.QtCore import QRectF

RIGHT = 26.0
"""The room for the curve's scale at the right, in pixels."""


def column_rect(width: int, layers: int, layer: int, top: float, height: float) -> QRectF:
    """Return the part of a widget of this width that a layer's column takes from `top` on."""
    left, right = _edge(width, layers, layer), _edge(width, layers, layer + 1)
    gap = 1.0 if right - left >= 4 else 0.0
    return QRectF(left, top, right - left - gap, height)


def layer_at(width: int, layers: int, x: float) -> int:
    """Return the layer whose column is nearest to a pixel; there is at least one layer."""
    return max(0, min(layers - 1, int(x * layers / max(width - RIGHT, 1.0))))


def _edge(width: int, layers: int, layer: int) -> float:
    return float(round(layer * max(width - RIGHT, 1.0) / max(layers, 1)))
