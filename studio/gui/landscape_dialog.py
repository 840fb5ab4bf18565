"""The landscape of the loss: which two channels, how far, and the picture in which their point is dragged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import (
    QComboBox,
    QFormLayout,
    QHBoxLayout,
    QLabel,
    QSpinBox,
    QVBoxLayout,
    QWidget,
)

from studio.gui.colour_scale import ColourBar
from studio.gui.controls import DeskLabel, NumberBox, name_control
from studio.gui.landscape_view import LandscapeView
from studio.gui.wanted_editor import WantedEditor
from studio.gui.work_dialog import WorkDialog

if TYPE_CHECKING:
    from collections.abc import Sequence

LOWEST, HIGHEST = -1.0, 2.0
"""The scales between which a landscape is measured at first."""

POINTS = 13


class LandscapeDialog(WorkDialog):
    """A window beside the desk, so that the faders stay in sight. Its setters never emit."""

    channels_changed = Signal()
    """Other channels were chosen."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__("Landscape of the loss", "Measure", "the landscape", parent)
        self.editor = WantedEditor()
        self.x_box, self.y_box = _channel_box("Channel across"), _channel_box("Channel up")
        self.low_box = NumberBox("Lowest scale", -100.0, 100.0, 0.25)
        self.high_box = NumberBox("Highest scale", -100.0, 100.0, 0.25)
        self.points_box = QSpinBox()
        self.points_box.setRange(3, 41)
        self.points_box.setValue(POINTS)
        self.points_box.setToolTip("How many scales of each channel are measured")
        name_control(self.points_box, "Points a side")
        self.low_box.setValue(LOWEST)
        self.high_box.setValue(HIGHEST)
        self.view = LandscapeView()
        self.readout = DeskLabel(elided=True)
        self.readout.setAccessibleName("Loss at the point")
        self.colour_bar = ColourBar()
        self._lay_out()
        for box in (self.x_box, self.y_box):
            box.activated.connect(lambda _: self._choose())
        self.set_running(False)

    @property
    def keys(self) -> tuple[str, str]:
        """The channels across and up; empty where there are none."""
        return str(self.x_box.currentData() or ""), str(self.y_box.currentData() or "")

    @property
    def span(self) -> tuple[float, float]:
        """The scales between which to measure, the lower one first."""
        low, high = sorted((self.low_box.value(), self.high_box.value()))
        return low, high

    def set_channels(self, channels: Sequence[tuple[str, str]]) -> None:
        """Offer channels as (key, name); those that are chosen stay, else the first two are."""
        offered = [(self.x_box.itemData(i), self.x_box.itemText(i)) for i in range(self.x_box.count())]
        if list(channels) == offered:
            return
        keys = [key for key, _ in channels]
        x, y = self.keys
        x = x if x in keys else next(iter(keys), "")
        if y not in keys or y == x:
            y = next((key for key in keys if key != x), x)
        for box, chosen in ((self.x_box, x), (self.y_box, y)):
            box.clear()
            for key, name in channels:
                box.addItem(name, key)
            box.setCurrentIndex(box.findData(chosen))
        self.refresh()

    @property
    def reason(self) -> str:
        """Why nothing can be measured now: two channels are needed as well."""
        x, y = self.keys
        return self.obstacle or ("" if x != y else "Choose two channels that are not the same")

    def _choose(self) -> None:
        self.refresh()
        self.channels_changed.emit()

    def _lay_out(self) -> None:
        span = QHBoxLayout()
        span.setSpacing(8)
        span.addWidget(self.low_box)
        span.addWidget(QLabel("to"))
        span.addWidget(self.high_box)
        span.addStretch(1)
        form = QFormLayout()
        form.setContentsMargins(0, 0, 0, 0)
        form.addRow("Across", self.x_box)
        form.addRow("Up", self.y_box)
        form.addRow("Scales from", span)
        form.addRow("Points a side", self.points_box)
        left = QVBoxLayout()
        left.setSpacing(8)
        left.addWidget(DeskLabel("Channels", strong=True))
        left.addLayout(form)
        left.addSpacing(6)
        left.addWidget(DeskLabel("Examples", strong=True))
        left.addWidget(self.editor, 1)
        scale = QHBoxLayout()
        scale.addStretch(1)
        scale.addWidget(self.colour_bar)
        right = QVBoxLayout()
        right.setSpacing(6)
        right.addWidget(self.readout)
        right.addWidget(self.view, 1)
        right.addLayout(scale)
        body = QHBoxLayout()
        body.setSpacing(20)
        body.addLayout(left, 2)
        body.addLayout(right, 3)
        self.lay_out(body)
        self.resize(920, 600)


def _channel_box(name: str) -> QComboBox:
    box = QComboBox()
    box.setAccessibleName(name)
    box.setMinimumContentsLength(12)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    return box
