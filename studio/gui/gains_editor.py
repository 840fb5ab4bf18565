"""Edits the gains of one channel: presets, a curve over the layers, and the targets that it goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QEvent, Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QDialog,
    QGridLayout,
    QHBoxLayout,
    QLabel,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel, NumberBox
from studio.gui.gain_grid import GainGrid
from studio.gui.layer_curve import LayerCurve
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from studio.contracts import FloatArray

HINT = "Draw over the layers, or use the arrow keys; a preset and the curve go to the ticked targets"

PRESET_TITLES = {
    "all": "Everywhere",
    "first-third": "First third",
    "middle-third": "Middle third",
    "last-third": "Last third",
    "attention": "Attention",
    "mlp": "MLP",
}


@dataclass(frozen=True, eq=False)
class ChannelGains:
    """What the editor shows.

    Attributes
    ----------
    key
        The channel's key; every signal names it.
    name
        The adapter's name.
    colour_index
        Which of the channel colours it has.
    targets
        The targets it acts on, such as ``attn_q``.
    gains
        float32 ``[targets, layers]``, NaN where it has no module.
    """

    key: str
    name: str
    colour_index: int
    targets: tuple[str, ...]
    gains: FloatArray


class GainsEditor(QDialog):
    """A window beside the desk, so that the views that follow stay in sight. Its setters never emit."""

    layers_drawn = Signal(str, object, object)
    """(key, targets, {layer: gain}): on every move."""
    preset_chosen = Signal(str, str, object)
    """(key, preset, targets)."""
    drag_started = Signal()
    """A stroke or a held key begins; one undo step ends with `drag_finished`."""
    drag_finished = Signal()
    """It ended."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._shown = ChannelGains("", "", 0, (), np.zeros((0, 0), np.float32))
        self.setWindowTitle("Gains")
        self.name_label = DeskLabel(strong=True, elided=True)
        self.presets = {name: QPushButton(title) for name, title in PRESET_TITLES.items()}
        self.layer_label = QLabel()
        self.number = NumberBox("Exact gain of the layer", -1000.0, 1000.0, 0.05)
        self.all_targets = QCheckBox("All targets")
        self.boxes: dict[str, QCheckBox] = {}
        self.curve = LayerCurve()
        self.grid = GainGrid()
        self.readout = DeskLabel(HINT, quiet=True, small=True, elided=True)
        self._lay_out()
        for name, button in self.presets.items():
            button.setAutoDefault(False)
            button.setAccessibleName(f"Gains: {PRESET_TITLES[name]}")
            button.clicked.connect(lambda _=False, name=name: self._choose_preset(name))
        self.number.valueChanged.connect(lambda gain: self._draw({self.curve.layer: gain}))
        self.all_targets.clicked.connect(self._tick_all)
        self.curve.drawn.connect(self._draw)
        self.curve.layer_chosen.connect(lambda _: self._show_layer())
        self.curve.drag_started.connect(self.drag_started)
        self.curve.drag_finished.connect(self.drag_finished)
        self.grid.pointed.connect(self._show_readout)
        self.grid.layer_chosen.connect(self._choose_layer)

    @property
    def key(self) -> str:
        """The channel that it shows."""
        return self._shown.key

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets that are ticked."""
        return tuple(target for target, box in self.boxes.items() if box.isChecked())

    def set_channel(self, channel: ChannelGains) -> None:
        """Show these gains. The ticks stay while it is the same channel."""
        if (channel.key, channel.targets) != (self._shown.key, self._shown.targets):
            self._make_boxes(channel.targets)
        self._shown = channel
        self.setWindowTitle(f"Gains of {channel.name}")
        self.name_label.setText(channel.name)
        self._show_gains()

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(6)
        head.addWidget(self.name_label, 1)
        for button in self.presets.values():
            head.addWidget(button)
        exact = QHBoxLayout()
        exact.setSpacing(10)
        exact.addWidget(self.layer_label, 1)
        exact.addWidget(self.number)
        side = QVBoxLayout()
        side.addLayout(exact)
        side.addStretch(1)
        side.addWidget(self.all_targets)
        self._boxes_layout = QVBoxLayout()
        self._boxes_layout.setSpacing(0)
        body = QGridLayout()
        body.setHorizontalSpacing(12)
        body.setVerticalSpacing(6)
        body.addLayout(side, 0, 0)
        body.addWidget(self.curve, 0, 1)
        body.addLayout(self._boxes_layout, 1, 0, Qt.AlignmentFlag.AlignTop)
        body.addWidget(self.grid, 1, 1)
        body.setColumnStretch(1, 1)
        body.setRowStretch(0, 1)
        self._layout = layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 12, 14, 10)
        layout.setSpacing(10)
        layout.addLayout(head)
        layout.addLayout(body, 1)
        layout.addWidget(self.readout)
        self.resize(860, 400)

    def _make_boxes(self, targets: tuple[str, ...]) -> None:
        for box in self.boxes.values():
            self._boxes_layout.removeWidget(box)
            box.hide()
            box.deleteLater()
        self.boxes = {target: QCheckBox(target) for target in targets}
        before: QWidget = self.all_targets
        for target, box in self.boxes.items():
            box.setChecked(True)
            box.setAccessibleName(f"Change {target}")
            box.setFixedHeight(self.grid.row_height)
            box.toggled.connect(lambda _: self._show_gains())
            self._boxes_layout.addWidget(box)
            QWidget.setTabOrder(before, box)
            before = box
        QWidget.setTabOrder(before, self.curve)
        self._layout.activate()
        self.resize(self.width(), self.sizeHint().height())

    def _tick_all(self) -> None:
        on = len(self.targets) < len(self.boxes)
        for box in self.boxes.values():
            box.setChecked(on)
        self._show_gains()

    def _choose_preset(self, name: str) -> None:
        self.preset_chosen.emit(self.key, name, self.targets)

    def _choose_layer(self, layer: int) -> None:
        self.curve.set_layer(layer)
        self._show_layer()

    def _draw(self, by_layer: dict[int, float]) -> None:
        if self.targets:
            self.layers_drawn.emit(self.key, self.targets, by_layer)

    def _show_gains(self) -> None:
        lit = tuple(box.isChecked() for box in self.boxes.values())
        colour = current_theme().adapter(self._shown.colour_index)
        gains = self._shown.gains
        self.curve.set_gains(gains[np.array(lit, dtype=bool)], colour)
        self.grid.set_gains(gains, lit, colour)
        self.all_targets.setChecked(all(lit))
        for button in self.presets.values():
            button.setEnabled(any(lit))
        self._show_layer()

    def _show_layer(self) -> None:
        gain = self.curve.gain(self.curve.layer)
        self.layer_label.setText(f"Layer {self.curve.layer}")
        blocked = self.number.blockSignals(True)
        self.number.setValue(gain or 0.0)
        self.number.blockSignals(blocked)
        self.number.setEnabled(gain is not None)

    def _show_readout(self, cell: tuple[int, int] | None) -> None:
        """Say what stands under the pointer."""
        if cell is None:
            self.readout.setText(HINT)
            return
        gain = float(self._shown.gains[cell])
        value = f"gain {gain:.4g}" if np.isfinite(gain) else "no such module"
        self.readout.setText(f"layer {cell[1]} · {self._shown.targets[cell[0]]} · {value}")

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme and the size of the font."""
        super().changeEvent(event)
        if event.type() in (QEvent.Type.PaletteChange, QEvent.Type.FontChange):
            for box in self.boxes.values():
                box.setFixedHeight(self.grid.row_height)
            self._show_gains()
