"""A training run as it learns: its curve, its numbers, what the model writes, and the switches over it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, QSize, Qt, Signal
from PySide6.QtGui import QColor, QPainter, QPaintEvent, QPen, QTextCursor
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QGridLayout,
    QHBoxLayout,
    QPlainTextEdit,
    QPushButton,
    QSizePolicy,
    QStackedLayout,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel, hint_label
from studio.gui.loss_plot import LossPlot
from studio.gui.theme import current_theme, small_font

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.gui.loss_plot import Points

HINT = "Train an adapter with Ctrl+L: its losses and what it writes show up here."

MOST_NAME = 220
"""How wide the name of a run is shown at most, in pixels."""


class RunPanel(QWidget):
    """Shows one run at a time. Its setters never emit."""

    listen_toggled = Signal(bool)
    """(on): put the adapter on the stack while it learns."""
    stop_requested = Signal()
    """End the run, and keep its best."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._samples: tuple[tuple[int, str], ...] = ()
        self.name_label = DeskLabel(strong=True)
        self.name_label.setMaximumWidth(MOST_NAME)
        self.state_label = DeskLabel(quiet=True, elided=True)
        self.state_label.setAccessibleName("State of the run")
        self.log_box = QCheckBox("Log axis")
        self.log_box.setAccessibleName("Logarithmic loss axis")
        self.listen_box = QCheckBox("Listen")
        self.listen_box.setToolTip("Put the adapter on the stack as it learns, and hear it in the blend")
        self.listen_box.setAccessibleName("Listen to the adapter as it learns")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setToolTip("End the run and keep the adapter as it was at its best")
        self.stop_button.setAccessibleName("Stop training and keep the best")
        self.plot = LossPlot()
        self.numbers = _Numbers()
        self.samples = QPlainTextEdit()
        self.samples.setReadOnly(True)
        self.samples.setTabChangesFocus(True)
        self.samples.setFrameShape(QFrame.Shape.StyledPanel)
        self.samples.setAccessibleName("What the model wrote on the way")
        self.samples.setPlaceholderText("What the model writes on the way shows up here.")
        self.samples.document().setDocumentMargin(8)
        self.hint = hint_label()
        self.hint.setText(HINT)
        self._lay_out()
        self.log_box.toggled.connect(self.plot.set_log)
        self.listen_box.clicked.connect(self.listen_toggled)
        self.stop_button.clicked.connect(self.stop_requested)
        self.set_running(False)

    def set_run(self, name: str) -> None:
        """Begin to show a run."""
        self.name_label.setText(name)
        self._samples = ()
        self.samples.clear()
        self.plot.set_losses([], [])
        self.numbers.set_numbers([])
        self._pages.setCurrentWidget(self._shown)

    def set_state(self, text: str) -> None:
        """Say where the run stands, such as ``step 12 of 40, 0:41 left``."""
        self.state_label.setText(text)

    def set_running(self, running: bool) -> None:
        """Say whether it can be stopped and listened to."""
        self.stop_button.setEnabled(running)
        self.listen_box.setEnabled(running)

    def set_listening(self, on: bool) -> None:
        """Say whether the adapter is on the stack."""
        self.listen_box.setChecked(on)

    def set_losses(self, train: Points, validation: Points) -> None:
        """Show the curves, as ``(step, nats a token)``."""
        self.plot.set_losses(train, validation)

    def set_numbers(self, numbers: Sequence[tuple[str, str]]) -> None:
        """Show numbers as (name, text)."""
        self.numbers.set_numbers(numbers)

    def set_samples(self, samples: Sequence[tuple[int, str]]) -> None:
        """Show what the model wrote, as ``(step, text)``; the newest stands first."""
        if tuple(samples) == self._samples:
            return
        self._samples = tuple(samples)
        self.samples.setPlainText(
            "\n\n".join(f"Step {step}\n{text.strip()}" for step, text in reversed(self._samples))
        )
        self.samples.moveCursor(QTextCursor.MoveOperation.Start)

    def _lay_out(self) -> None:
        head = QHBoxLayout()
        head.setSpacing(14)
        head.addWidget(self.name_label)
        head.addWidget(self.state_label, 1)
        head.addWidget(_Legend())
        head.addWidget(self.log_box)
        head.addWidget(self.listen_box)
        head.addWidget(self.stop_button)
        body = QHBoxLayout()
        body.setSpacing(12)
        body.addWidget(self.plot, 5)
        body.addWidget(self.numbers)
        body.addWidget(self.samples, 3)
        self._shown = QWidget()
        layout = QVBoxLayout(self._shown)
        layout.setContentsMargins(10, 6, 8, 8)
        layout.setSpacing(6)
        layout.addLayout(head)
        layout.addLayout(body, 1)
        self._pages = QStackedLayout(self)
        self._pages.addWidget(self.hint)
        self._pages.addWidget(self._shown)


class _Numbers(QWidget):
    """Names over their numbers, in one narrow column of pairs; labels are reused."""

    def __init__(self) -> None:
        super().__init__()
        self.setAccessibleName("Numbers of the run")
        self._labels: list[tuple[DeskLabel, DeskLabel]] = []
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 2, 0, 2)
        self._grid.setHorizontalSpacing(12)
        self._grid.setVerticalSpacing(3)
        self._grid.setColumnMinimumWidth(1, 72)
        self._grid.setAlignment(Qt.AlignmentFlag.AlignTop)

    @property
    def numbers(self) -> dict[str, str]:
        """What it shows."""
        return {name.text(): number.text() for name, number in self._labels if name.text()}

    def set_numbers(self, numbers: Sequence[tuple[str, str]]) -> None:
        while len(self._labels) < len(numbers):
            labels = DeskLabel(small=True, quiet=True), DeskLabel()
            for column, label in enumerate(labels):
                self._grid.addWidget(label, len(self._labels), column)
            self._labels.append(labels)
        for index, (name, number) in enumerate(self._labels):
            shown = numbers[index] if index < len(numbers) else ("", "")
            name.setText(shown[0])
            number.setText(shown[1])
        self.setAccessibleDescription(", ".join(" ".join(pair) for pair in numbers))


class _Legend(QWidget):
    """Which line is which."""

    _NAMES = ("training", "validation")

    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Fixed, QSizePolicy.Policy.Preferred)

    def sizeHint(self) -> QSize:
        """Take what its names take."""
        metrics = self.fontMetrics()
        width = sum(metrics.horizontalAdvance(name) + 34 for name in self._NAMES)
        return QSize(width, metrics.height())

    def paintEvent(self, event: QPaintEvent) -> None:
        """Paint a piece of each line, and its name."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(small_font(self.font()))
        x, middle = 0.0, self.height() / 2
        looks = ((QColor(theme.blend), Qt.PenStyle.SolidLine), (theme.adapter(0), Qt.PenStyle.DashLine))
        for name, (colour, style) in zip(self._NAMES, looks, strict=True):
            painter.setPen(QPen(colour, 2, style))
            painter.drawLine(round(x), round(middle), round(x + 18), round(middle))
            painter.setPen(theme.faint)
            width = painter.fontMetrics().horizontalAdvance(name)
            painter.drawText(round(x + 23), 0, width + 2, self.height(), Qt.AlignmentFlag.AlignVCenter, name)
            x += width + 37

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme and the size of the font."""
        super().changeEvent(event)
        self.updateGeometry()
        self.update()
