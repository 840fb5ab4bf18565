"""The heatmap: one value for every module, targets down, layers across."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import FloatArray


BoolArray: TypeAlias = np.ndarray[Any, np.dtype[np.bool_]]


class HeatmapView(QWidget):
    """Shows numbers computed elsewhere; it sets the colour range itself."""

    mode_changed = Signal(str)
    """(mode key): the user chose what the cells measure."""
    module_selected = Signal(str, int)
    """(target, layer): a cell was clicked, or chosen with the arrow keys."""

    def set_modes(self, modes: Sequence[tuple[str, str]], current: str) -> None:
        """Offer modes as (key, title): weight norm, relative, one for each adapter."""

    def set_grid(self, targets: Sequence[str], layers: int) -> None:
        """Set the rows (target names such as ``attn_q``) and the number of columns."""

    def set_values(self, values: FloatArray, *, absent: BoolArray | None = None, unit: str = "") -> None:
        """Show values ``[targets, layers]``. NaN and Inf are marked as faults; `absent` cells are left blank."""

    def set_selected(self, target: str, layer: int) -> None:
        """Mark a module; an unknown one clears the mark."""
