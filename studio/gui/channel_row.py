"""One channel strip: an adapter's name, fader, exact scale, mute, solo and remove."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from PySide6.QtCore import QEvent, QRectF, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen
from PySide6.QtWidgets import QAbstractButton, QFrame, QHBoxLayout, QSizePolicy, QVBoxLayout, QWidget

from studio.gui.controls import (
    CloseButton,
    DeskLabel,
    LetterButton,
    NumberBox,
    name_control,
    set_text_colour,
)
from studio.gui.fader import STEPS_PER_UNIT, Fader
from studio.gui.shapes import mixed
from studio.gui.theme import current_theme


@dataclass(frozen=True)
class Channel:
    """What one strip shows.

    Attributes
    ----------
    key
        The adapter's key on the stack; every signal names it.
    name
        The adapter's name.
    details
        The line under the fader, such as ``r8 · 210/210 · ‖Δ‖ 1.9 %``.
    scale
        1.0 = as trained.
    audible
        False dims the strip: muted, or another one is soloed.
    shaped
        Whether some gain is not 1.
    warning
        Why the adapter only partly works (unmatched modules); empty when all is well.
    report
        Its import report in one line; empty where it has none.
    flagged
        Whether the report warns of something.
    """

    key: str
    name: str
    details: str = ""
    scale: float = 1.0
    muted: bool = False
    soloed: bool = False
    audible: bool = True
    shaped: bool = False
    warning: str = ""
    report: str = ""
    flagged: bool = False


class ChannelRow(QFrame):
    """A channel strip. Its setters never emit; its signals come from the user alone."""

    scale_changed = Signal(str, float)
    """(key, scale): on every move."""
    drag_started = Signal(str)
    """(key): a drag, or a held arrow key, begins; one undo step ends with `drag_finished`."""
    drag_finished = Signal(str)
    """(key): the drag ended."""
    mute_toggled = Signal(str, bool)
    """(key, on)."""
    solo_toggled = Signal(str, bool, bool)
    """(key, on, exclusive): exclusive when Shift was held."""
    gains_requested = Signal(str)
    """(key): show its gains."""
    report_requested = Signal(str)
    """(key): show its import report."""
    remove_requested = Signal(str)
    """(key)."""

    def __init__(self, channel: Channel, colour_index: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.channel = channel
        self._colour_index = colour_index
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        key = channel.key
        self.name_label = DeskLabel(strong=True, elided=True)
        self.fader = Fader()
        self.number = NumberBox("", -1000.0, 1000.0, 0.05)
        self.report_button = LetterButton("i", "warning", "", toggles=False)
        self.gains_button = LetterButton("G", "accent", "")
        self.mute_button = LetterButton("M", "warning", "")
        self.solo_button = LetterButton("S", "good", "")
        self.remove_button = CloseButton("")
        self.details_label = DeskLabel(small=True, quiet=True, elided=True)

        head = QHBoxLayout()
        head.setSpacing(4)
        head.addWidget(self.name_label, 1)
        for button in self._buttons:
            head.addWidget(button)
        controls = QHBoxLayout()
        controls.setSpacing(10)
        controls.addWidget(self.fader, 1)
        controls.addWidget(self.number)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(14, 9, 10, 8)
        layout.setSpacing(3)
        layout.addLayout(head)
        layout.addLayout(controls)
        layout.addWidget(self.details_label)
        chain = self.tab_chain
        for first, second in pairwise(chain):
            QWidget.setTabOrder(first, second)

        self.fader.moved.connect(self._fader_moved)
        self.fader.drag_started.connect(lambda: self.drag_started.emit(key))
        self.fader.drag_finished.connect(lambda: self.drag_finished.emit(key))
        self.number.valueChanged.connect(self._number_changed)
        self.report_button.clicked.connect(lambda: self.report_requested.emit(key))
        self.gains_button.clicked.connect(self._ask_for_gains)
        self.mute_button.clicked.connect(lambda on: self.mute_toggled.emit(key, on))
        self.solo_button.clicked.connect(
            lambda on: self.solo_toggled.emit(key, on, self.solo_button.clicked_with_shift)
        )
        self.remove_button.clicked.connect(lambda: self.remove_requested.emit(key))
        self.set_channel(channel)
        self._take_colours()

    @property
    def tab_chain(self) -> list[QWidget]:
        """Its controls in the order Tab visits them."""
        return [self.fader, self.number, *self._buttons]

    @property
    def _buttons(self) -> list[QAbstractButton]:
        letters = (self.report_button, self.gains_button, self.mute_button, self.solo_button)
        return [*letters, self.remove_button]

    def set_channel(self, channel: Channel) -> None:
        """Show these values."""
        self.channel = channel
        self.name_label.setText(channel.name)
        self.name_label.setToolTip(channel.name)
        self.details_label.setText(
            f"{channel.details} · {channel.warning}" if channel.warning else channel.details
        )
        self.setToolTip(channel.warning)
        self._show_scale(channel.scale)
        self.report_button.setEnabled(bool(channel.report))
        self.report_button.setText("!" if channel.flagged else "i")
        self.report_button.set_marked(channel.flagged)
        self.gains_button.setChecked(channel.shaped)
        self.mute_button.setChecked(channel.muted)
        self.solo_button.setChecked(channel.soloed)
        self._name_controls(channel.name)
        self._take_colours()

    def _name_controls(self, name: str) -> None:
        self.setAccessibleName(f"Channel {name}")
        self.fader.setAccessibleName(f"Scale of {name}")
        name_control(self.number, f"Exact scale of {name}")
        self.report_button.setAccessibleName(f"Import report of {name}")
        self.report_button.setAccessibleDescription(self.channel.report)
        self.report_button.setToolTip(self.channel.report or "It was made here: there is no import report")
        self.gains_button.setAccessibleName(f"Gains of {name}")
        self.gains_button.setToolTip("Gains by layer and target; lit when some are not 1")
        self.mute_button.setAccessibleName(f"Mute {name}")
        self.mute_button.setToolTip("Mute; the scale is remembered")
        self.solo_button.setAccessibleName(f"Solo {name}")
        self.solo_button.setToolTip("Solo; Shift+click: this one alone")
        self.remove_button.setAccessibleName(f"Remove {name}")
        self.remove_button.setToolTip("Remove from the stack")

    def _show_scale(self, scale: float) -> None:
        if not self.fader.isSliderDown() or round(scale * STEPS_PER_UNIT) != self.fader.value():
            self.fader.set_scale(scale)
        blocked = self.number.blockSignals(True)
        self.number.setValue(scale)
        self.number.blockSignals(blocked)

    def _ask_for_gains(self) -> None:
        self.gains_button.setChecked(self.channel.shaped)  # its light tells of the gains, not of the click
        self.gains_requested.emit(self.channel.key)

    def _fader_moved(self, scale: float) -> None:
        self._show_scale(scale)
        self.scale_changed.emit(self.channel.key, scale)

    def _number_changed(self, scale: float) -> None:
        self._show_scale(scale)
        self.scale_changed.emit(self.channel.key, scale)

    def _take_colours(self) -> None:
        theme = current_theme()
        colour = theme.adapter(self._colour_index)
        if not self.channel.audible:
            colour = mixed(colour, theme.line, 0.7)
        self.fader.set_colour(colour)
        set_text_colour(self.name_label, theme.text if self.channel.audible else theme.faint)
        set_text_colour(self.details_label, theme.warning if self.channel.warning else theme.faint)
        self.update()

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._take_colours()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the strip's ground and its colour at the left edge."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setPen(QPen(QColor(theme.line), 1))
        painter.setBrush(QColor(theme.panel))
        ground = QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5)
        painter.drawRoundedRect(ground, 6, 6)
        colour = theme.adapter(self._colour_index)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(colour if self.channel.audible else mixed(colour, theme.line, 0.7))
        painter.drawRoundedRect(QRectF(5, 10, 3, self.height() - 20), 1.5, 1.5)
