"""The stack of adapters as a mixing desk: a master strip, one channel strip each, a place to drop files."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QRectF, Qt, Signal
from PySide6.QtGui import (
    QColor,
    QDragEnterEvent,
    QDragLeaveEvent,
    QDropEvent,
    QPainter,
    QPaintEvent,
    QPen,
)
from PySide6.QtWidgets import (
    QAbstractButton,
    QApplication,
    QFrame,
    QHBoxLayout,
    QLabel,
    QScrollArea,
    QSizePolicy,
    QVBoxLayout,
    QWidget,
)

from studio.gui.channel_row import Channel, ChannelRow
from studio.gui.controls import NumberBox
from studio.gui.fader import Fader
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence

MASTER = ""
"""The key of the master strip in `drag_started` and `drag_finished`."""


class StackPanel(QWidget):
    """Shows the mixer; the keys in its signals are those of the channels given to `set_channels`."""

    scale_changed = Signal(str, float)
    """(key, scale)."""
    drag_started = Signal(str)
    """(key), or `MASTER` for the master strip: open one undo step."""
    drag_finished = Signal(str)
    """(key), or `MASTER`: close it."""
    mute_toggled = Signal(str, bool)
    """(key, on)."""
    solo_toggled = Signal(str, bool, bool)
    """(key, on, exclusive)."""
    gains_requested = Signal(str)
    """(key): show its gains."""
    report_requested = Signal(str)
    """(key): show its import report."""
    remove_requested = Signal(str)
    """(key)."""
    master_changed = Signal(float)
    """(scale)."""
    add_requested = Signal()
    """The add button: choose adapters to open."""
    paths_dropped = Signal(list)
    """(list[Path]): files or folders dropped on the panel."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._rows: dict[str, ChannelRow] = {}
        self._colours: dict[str, int] = {}
        self.setAcceptDrops(True)
        self.master = MasterStrip()
        self.add_button = AddButton()
        self._strips = QWidget()
        self._strips_layout = QVBoxLayout(self._strips)
        self._strips_layout.setContentsMargins(0, 0, 0, 0)
        self._strips_layout.setSpacing(6)
        self._strips_layout.addWidget(self.add_button)
        self._strips_layout.addStretch(1)
        scroll = QScrollArea()
        scroll.setWidget(self._strips)
        scroll.setWidgetResizable(True)
        scroll.setFrameShape(QFrame.Shape.NoFrame)
        scroll.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        scroll.setFocusPolicy(Qt.FocusPolicy.NoFocus)
        scroll.setAccessibleName("Channels")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 8)
        layout.setSpacing(6)
        layout.addWidget(self.master)
        layout.addWidget(scroll, 1)

        self.master.fader.moved.connect(self._master_moved)
        self.master.number.valueChanged.connect(self._master_moved)
        self.master.fader.drag_started.connect(lambda: self.drag_started.emit(MASTER))
        self.master.fader.drag_finished.connect(lambda: self.drag_finished.emit(MASTER))
        self.add_button.clicked.connect(lambda: self.add_requested.emit())

    @property
    def rows(self) -> dict[str, ChannelRow]:
        """The strips by key, in the order shown."""
        return dict(self._rows)

    @property
    def focused(self) -> str:
        """The key of the strip that has the focus; empty where none has."""
        focus = QApplication.focusWidget()
        return next((key for key, row in self._rows.items() if focus and row.isAncestorOf(focus)), "")

    def set_channels(self, channels: Sequence[Channel]) -> None:
        """Show these channels in this order. Strips are kept by key: one that is being dragged lives on."""
        wanted = {channel.key: channel for channel in channels}
        changed = list(wanted) != list(self._rows)
        for key in [key for key in self._rows if key not in wanted]:
            row = self._rows.pop(key)
            self._strips_layout.removeWidget(row)
            row.hide()
            row.deleteLater()
        for key, channel in wanted.items():
            if key in self._rows:
                self._rows[key].set_channel(channel)
            else:
                self._rows[key] = self._new_row(channel)
        if changed:
            self._rows = {key: self._rows[key] for key in wanted}
            for index, row in enumerate(self._rows.values()):
                self._strips_layout.insertWidget(index, row)
                row.show()
            self._chain_tabs()
        self.add_button.set_empty(not wanted)

    def set_master(self, scale: float) -> None:
        """Show the master scale."""
        self.master.set_scale(scale)

    def set_adding_enabled(self, enabled: bool) -> None:
        """Say whether adapters can be added now."""
        self.add_button.setEnabled(enabled)
        self.setAcceptDrops(enabled)

    def colour_index(self, key: str) -> int:
        """Return which colour a channel has; it keeps it for good, so that undo brings it back too."""
        return self._colours.setdefault(key, len(self._colours))

    def _new_row(self, channel: Channel) -> ChannelRow:
        row = ChannelRow(channel, self.colour_index(channel.key), self._strips)
        row.scale_changed.connect(self.scale_changed)
        row.drag_started.connect(self.drag_started)
        row.drag_finished.connect(self.drag_finished)
        row.mute_toggled.connect(self.mute_toggled)
        row.solo_toggled.connect(self.solo_toggled)
        row.gains_requested.connect(self.gains_requested)
        row.report_requested.connect(self.report_requested)
        row.remove_requested.connect(self.remove_requested)
        return row

    def _chain_tabs(self) -> None:
        """Let Tab walk master, every strip from the top, then the add button."""
        chain: list[QWidget] = [self.master.fader, self.master.number]
        for row in self._rows.values():
            chain += row.tab_chain
        for first, second in pairwise([*chain, self.add_button]):
            QWidget.setTabOrder(first, second)

    def _master_moved(self, scale: float) -> None:
        self.master.set_scale(scale)
        self.master_changed.emit(scale)

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Accept files and folders of this machine."""
        if event.mimeData().hasUrls() and all(url.isLocalFile() for url in event.mimeData().urls()):
            event.acceptProposedAction()
            self.add_button.set_drop_target(True)

    def dragLeaveEvent(self, event: QDragLeaveEvent) -> None:
        """Stop showing where to drop."""
        self.add_button.set_drop_target(False)

    def dropEvent(self, event: QDropEvent) -> None:
        """Hand the paths on."""
        self.add_button.set_drop_target(False)
        event.acceptProposedAction()
        self.paths_dropped.emit([Path(url.toLocalFile()) for url in event.mimeData().urls()])


class MasterStrip(QFrame):
    """The scale that multiplies all others."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.fader = Fader()
        self.fader.setAccessibleName("Master scale")
        self.number = NumberBox("Exact master scale", -1000.0, 1000.0, 0.05)
        self.set_scale(1.0)
        label = QLabel("Master")
        label.setBuddy(self.fader)
        layout = QHBoxLayout(self)
        layout.setContentsMargins(14, 4, 10, 4)
        layout.setSpacing(10)
        layout.addWidget(label)
        layout.addWidget(self.fader, 1)
        layout.addWidget(self.number)

    def set_scale(self, scale: float) -> None:
        """Show a scale."""
        self.fader.set_scale(scale)
        blocked = self.number.blockSignals(True)
        self.number.setValue(scale)
        self.number.blockSignals(blocked)


class AddButton(QAbstractButton):
    """A dashed place that says: add an adapter here, by a click or by dropping it."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._target = False
        self._empty = True
        self.setAccessibleName("Add adapter")
        self.setToolTip("A GGUF adapter file or a PEFT folder")
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Preferred, QSizePolicy.Policy.Fixed)
        self.set_empty(True)

    def set_empty(self, empty: bool) -> None:
        """Ask for the first adapter in a larger place while there is none."""
        self._empty = empty
        self._show_text()
        self.setFixedHeight(88 if empty else 38)

    def _show_text(self) -> None:
        first = (
            "Add an adapter: drop it here, or click to choose" if self.isEnabled() else "Open a base first"
        )
        self.setText(first if self._empty else "+ Add adapter  (drop here)")

    def set_drop_target(self, target: bool) -> None:
        """Light up while something that can be dropped hangs over the panel."""
        self._target = target
        self.update()

    def changeEvent(self, event: QEvent) -> None:
        """Say what comes first, and repaint, when it is enabled or disabled."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.EnabledChange:
            self._show_text()
        self.update()

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint the dashed frame and the words."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        lit = self.isEnabled() and (self._target or self.underMouse() or self.hasFocus())
        pen = QPen(QColor(theme.accent if lit else theme.faint if self.isEnabled() else theme.line), 1)
        pen.setDashPattern([4, 3])
        painter.setPen(pen)
        ground = QColor(theme.accent)
        ground.setAlphaF(0.12 if self._target else 0.0)
        painter.setBrush(ground)
        painter.drawRoundedRect(QRectF(self.rect()).adjusted(0.5, 0.5, -0.5, -0.5), 6, 6)
        painter.setPen(QColor(theme.accent if lit else theme.faint))
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(self.rect().adjusted(12, 0, -12, 0), flags, self.text())
