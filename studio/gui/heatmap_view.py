"""The heatmap: one value for every module, targets down, layers across."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QEvent, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QComboBox,
    QHBoxLayout,
    QPushButton,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from studio.gui.cell_plot import BoolArray, CellPlot
from studio.gui.colour_scale import ColourBar, colour_range, colour_table, even_range
from studio.gui.controls import DeskLabel, hint_label
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import FloatArray

READOUT_WIDTH = 130
"""What the readout keeps in a narrow window, in pixels; the colour scale gives way."""


class HeatmapView(QWidget):
    """Shows numbers computed elsewhere; it sets the colour range itself."""

    mode_changed = Signal(str)
    """(mode key): the user chose what the cells measure."""
    module_selected = Signal(str, int)
    """(target, layer): a cell was clicked, or chosen with the arrow keys."""
    refresh_requested = Signal()
    """Measure again what the cells show."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._targets: tuple[str, ...] = ()
        self._layers = 0
        self._values = np.zeros((0, 0), np.float32)
        self._absent = np.zeros((0, 0), np.bool_)
        self._unit = ""
        self._diverging = False
        self._note = ""
        self._selected: tuple[int, int] | None = None  # row, column
        self.range = (0.0, 0.0)
        """The values at the two ends of the colour scale."""

        self.mode_box = QComboBox()
        self.mode_box.setAccessibleName("What the heatmap shows")
        self.mode_box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToContents)
        self.readout = DeskLabel(elided=True)
        self.readout.setAccessibleName("Value under the pointer")
        self.readout.setMinimumWidth(READOUT_WIDTH)
        self.colour_bar = ColourBar()
        self.hold_box = QCheckBox("Hold range")
        self.hold_box.setAccessibleName("Hold the colour range")
        self.hold_box.setToolTip("Keep the colours' range while the values change")
        self.refresh_button = QPushButton("Refresh")
        self.refresh_button.setAccessibleName("Measure the heatmap again")
        self.refresh_button.hide()
        self.plot = CellPlot()
        self.message_label = hint_label()
        head = QHBoxLayout()
        head.setSpacing(14)
        head.addWidget(self.mode_box)
        head.addWidget(self.readout, 1)
        head.addWidget(self.refresh_button)
        head.addWidget(self.colour_bar)
        head.addWidget(self.hold_box)
        self._shown = QWidget()
        layout = QVBoxLayout(self._shown)
        layout.setContentsMargins(8, 6, 8, 4)
        layout.setSpacing(4)
        layout.addLayout(head)
        layout.addWidget(self.plot, 1)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self._shown)
        self._pages.addWidget(self.message_label)
        self._take_colours()

        self.mode_box.activated.connect(self._choose_mode)
        self.hold_box.toggled.connect(lambda _: self._paint_values())
        self.refresh_button.clicked.connect(self.refresh_requested)
        self.plot.pointed.connect(self._show_readout)
        self.plot.clicked.connect(self._choose)
        self.plot.stepped.connect(self._step)

    def set_modes(self, modes: Sequence[tuple[str, str]], current: str) -> None:
        """Offer modes as (key, title): weight norm, relative, one for each adapter."""
        box = self.mode_box
        if list(modes) != [(box.itemData(i), box.itemText(i)) for i in range(box.count())]:
            self.mode_box.clear()
            for key, title in modes:
                self.mode_box.addItem(title, key)
        if self.mode_box.currentData() != current:
            self.hold_box.setChecked(False)
        self.mode_box.setCurrentIndex(self.mode_box.findData(current))

    def set_grid(self, targets: Sequence[str], layers: int) -> None:
        """Set the rows (target names such as ``attn_q``) and the number of columns."""
        if (tuple(targets), layers) == (self._targets, self._layers):
            return
        self._targets, self._layers, self._selected = tuple(targets), layers, None
        self.plot.set_grid(self._targets, layers)
        self.set_values(np.zeros((len(self._targets), layers), np.float32))

    def set_values(
        self,
        values: FloatArray,
        *,
        absent: BoolArray | None = None,
        unit: str = "",
        diverging: bool = False,
    ) -> None:
        """Show values ``[targets, layers]``. NaN and Inf are marked as faults; `absent` cells are left blank.

        Diverging ones have colours for both sides of 0. Raises ``ValueError`` when the shape is not that of
        the grid.
        """
        shape = (len(self._targets), self._layers)
        if values.shape != shape:
            raise ValueError(f"values have shape {values.shape}, the grid is {shape}")
        self._values, self._unit, self._diverging = values, unit, diverging
        self._absent = np.zeros(shape, np.bool_) if absent is None else absent
        self._paint_values()

    def set_refresh(self, offered: bool, note: str = "") -> None:
        """Say whether what is shown is measured on demand, and what is to be known of it, in a few words."""
        self.refresh_button.setVisible(offered)
        self._note = note
        self._show_readout(None)

    def set_message(self, message: str) -> None:
        """Show why there is nothing to show, in place of cells; empty returns to the cells."""
        self.message_label.setText(message)
        self._pages.setCurrentWidget(self.message_label if message else self._shown)

    def set_selected(self, target: str, layer: int) -> None:
        """Mark a module; an unknown one clears the mark."""
        known = target in self._targets and 0 <= layer < self._layers
        self._selected = (self._targets.index(target), layer) if known else None
        self.plot.mark(self._selected)
        self._show_readout(None)

    def _paint_values(self) -> None:
        finite = np.isfinite(self._values)
        shown = finite & ~self._absent
        if not self.hold_box.isChecked():
            self.range = (even_range if self._diverging else colour_range)(self._values[shown])
        low, high = self.range
        theme = current_theme()
        table = colour_table(theme.slopes if self._diverging else theme.heat)  # [256, 4]
        share = np.full(self._values.shape, 0.5 if self._diverging else 0.0, np.float32)
        if high > low:
            share[shown] = np.clip((self._values[shown] - low) / (high - low), 0.0, 1.0)
        colours = table[np.rint(share * 255).astype(np.intp)]  # [targets, layers, 4]
        colours[~shown] = 0
        self.plot.show_cells(colours, faults=~finite & ~self._absent)
        self.colour_bar.set_range(low, high, self._unit, diverging=self._diverging)
        self._show_readout(None)

    def _show_readout(self, cell: tuple[int, int] | None) -> None:
        """Say what stands under the pointer, or in the selected cell."""
        cell = cell or self._selected
        if cell is None:
            self.readout.setText(self._note)
            return
        row, column = cell
        value = "no such module" if self._absent[cell] else f"{self._values[cell]:.4g} {self._unit}".rstrip()
        self.readout.setText(f"layer {column} · {self._targets[row]} · {value}")

    def _choose_mode(self, index: int) -> None:
        self.hold_box.setChecked(False)  # a range of another measure says nothing
        self.mode_changed.emit(self.mode_box.itemData(index))

    def _choose(self, cell: tuple[int, int]) -> None:
        self._selected = cell
        self.plot.mark(cell)
        self._show_readout(cell)
        self.module_selected.emit(self._targets[cell[0]], cell[1])

    def _step(self, rows: int, columns: int) -> None:
        if self._targets and self._layers:
            row, column = self._selected or (0, -columns)
            row = max(0, min(len(self._targets) - 1, row + rows))
            self._choose((row, max(0, min(self._layers - 1, column + columns))))

    def _take_colours(self) -> None:
        self.plot.take_colours()
        self._paint_values()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._take_colours()
        elif event.type() == QEvent.Type.FontChange:
            self.plot.take_font()
