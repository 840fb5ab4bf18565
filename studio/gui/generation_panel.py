"""Generation: base and blend streamed side by side, and how they are sampled."""

from __future__ import annotations

from typing import Literal, TypeAlias

from PySide6.QtCore import QEvent, QRegularExpression, QSignalBlocker, QSize, Qt, Signal
from PySide6.QtGui import QColor, QRegularExpressionValidator, QResizeEvent, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import (
    QAbstractSpinBox,
    QGridLayout,
    QHBoxLayout,
    QLineEdit,
    QPlainTextEdit,
    QPushButton,
    QSpinBox,
    QSplitter,
    QVBoxLayout,
    QWidget,
)

from studio.contracts import Sampling
from studio.gui.controls import DeskLabel, NumberBox, name_control
from studio.gui.shapes import PRIMARY, mixed
from studio.gui.theme import current_theme
from studio.session.limits import MAX_TOKENS, MIN_P, SEED_DIGITS, TEMPERATURE, TOP_K, TOP_P

_GAP = 6

Side: TypeAlias = Literal["base", "blend"]


class GenerationPanel(QWidget):
    """Two streams and their controls."""

    generate_requested = Signal()
    """The Generate button; `sampling` says how."""
    stop_requested = Signal()
    """The Stop button."""
    sampling_changed = Signal(object)
    """(Sampling): a control was changed."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.controls = SamplingControls()
        self.generate_button = QPushButton("Generate")
        self.generate_button.setProperty(PRIMARY, True)
        self.generate_button.setAccessibleName("Generate")
        self.stop_button = QPushButton("Stop")
        self.stop_button.setAccessibleName("Stop generating")
        self.streams: dict[Side, StreamView] = {"base": StreamView("Base"), "blend": StreamView("Blend")}
        splitter = QSplitter(Qt.Orientation.Horizontal)
        splitter.setChildrenCollapsible(False)
        for stream in self.streams.values():
            splitter.addWidget(stream)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.controls)
        head.addStretch(1)
        head.addWidget(self.generate_button, 0, Qt.AlignmentFlag.AlignBottom)
        head.addWidget(self.stop_button, 0, Qt.AlignmentFlag.AlignBottom)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 8)
        layout.setSpacing(8)
        layout.addLayout(head)
        layout.addWidget(splitter, 1)
        self._enabled, self._running = True, False
        self._show_buttons()
        self.generate_button.clicked.connect(lambda: self.generate_requested.emit())
        self.stop_button.clicked.connect(lambda: self.stop_requested.emit())
        self.controls.changed.connect(lambda: self.sampling_changed.emit(self.sampling))

    @property
    def sampling(self) -> Sampling:
        """Where the controls stand."""
        return self.controls.sampling

    def set_sampling(self, sampling: Sampling) -> None:
        """Show where the controls stand."""
        self.controls.set_sampling(sampling)

    def clear(self) -> None:
        """Empty both streams."""
        for stream in self.streams.values():
            stream.clear()

    def append(self, side: Side, piece: str) -> None:
        """Add one token's text to a stream; from the first token that differs on, the blend's are marked."""
        self.streams[side].append(piece)
        self._mark_divergence(ended=False)

    def set_status(self, side: Side, text: str) -> None:
        """Show a short status beside a stream's heading, such as ``34 tokens · 21/s``."""
        self.streams[side].status_label.setText(text)

    def set_running(self, running: bool) -> None:
        """Switch between Generate and Stop. At the end, what one stream has beyond the other differs too."""
        self._running = running
        self._show_buttons()
        if not running:
            self._mark_divergence(ended=True)

    def set_enabled(self, enabled: bool, reason: str = "") -> None:
        """Say whether generating is possible now, and if not, why (a tool tip)."""
        self._enabled = enabled
        self.generate_button.setToolTip(reason or "Ctrl+Return in the prompt does the same")
        self._show_buttons()

    def _show_buttons(self) -> None:
        self.generate_button.setEnabled(self._enabled and not self._running)
        self.stop_button.setEnabled(self._running)

    def _mark_divergence(self, *, ended: bool) -> None:
        base, blend = self.streams["base"].pieces, self.streams["blend"].pieces
        if self.streams["blend"].marked_from is None and base and blend:
            index = first_difference(base, blend, ended=ended)
            if index is not None:
                self.streams["blend"].mark_from(index)


def first_difference(base: list[str], blend: list[str], *, ended: bool) -> int | None:
    """Return where two streams part, or None. Once both ended, the end of the shorter one counts."""
    for index, (one, other) in enumerate(zip(base, blend, strict=False)):
        if one != other:
            return index
    return min(len(base), len(blend)) if ended and len(base) != len(blend) else None


class StreamView(QWidget):
    """One stream of text under its heading."""

    def __init__(self, title: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.pieces: list[str] = []
        self.marked_from: int | None = None
        heading = DeskLabel(title, strong=True)
        self.status_label = DeskLabel(small=True, quiet=True)
        self.status_label.setAccessibleName(f"{title} status")
        self.text = QPlainTextEdit()
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setUndoRedoEnabled(False)
        self.text.setAccessibleName(f"{title} output")
        self.text.document().setDocumentMargin(8)
        self.text.setMinimumSize(140, 80)
        head = QHBoxLayout()
        head.setContentsMargins(2, 0, 2, 0)
        head.addWidget(heading)
        head.addStretch(1)
        head.addWidget(self.status_label)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addLayout(head)
        layout.addWidget(self.text, 1)

    def clear(self) -> None:
        """Empty the stream."""
        self.pieces.clear()
        self.marked_from = None
        self.text.clear()
        self.status_label.clear()

    def append(self, piece: str) -> None:
        """Add one token's text, and stay at the end if the end was in sight."""
        self.pieces.append(piece)
        bar = self.text.verticalScrollBar()
        at_end = bar.value() >= bar.maximum() - 2
        self._insert(piece, marked=self.marked_from is not None)
        if at_end:
            bar.setValue(bar.maximum())

    def mark_from(self, index: int) -> None:
        """Mark every token from this one on."""
        self.marked_from = index
        self._write_again()

    def _insert(self, piece: str, *, marked: bool) -> None:
        theme, style = current_theme(), QTextCharFormat()
        style.setForeground(QColor(theme.text))
        if marked:
            style.setBackground(mixed(theme.panel, theme.blend, 0.2))
        cursor = QTextCursor(self.text.document())
        cursor.movePosition(QTextCursor.MoveOperation.End)
        cursor.insertText(piece, style)

    def _write_again(self) -> None:
        bar = self.text.verticalScrollBar()
        position, at_end = bar.value(), bar.value() >= bar.maximum() - 2
        self.text.clear()
        marked_from = len(self.pieces) if self.marked_from is None else self.marked_from
        self._insert("".join(self.pieces[:marked_from]), marked=False)
        self._insert("".join(self.pieces[marked_from:]), marked=True)
        bar.setValue(bar.maximum() if at_end else position)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme: the colours stand in the text itself."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and self.pieces:
            self._write_again()


class SamplingControls(QWidget):
    """How the next token is chosen: labelled numbers in one row, or two where there is no room for one."""

    changed = Signal()
    """The user changed a control."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.max_tokens = _whole_number("Most tokens to make", *MAX_TOKENS)
        self.max_tokens.setSingleStep(16)
        self.temperature = NumberBox("Temperature", *TEMPERATURE, 0.1)
        self.temperature.setToolTip("0 is greedy: always the likeliest token")
        self.top_k = _whole_number("Top-k", *TOP_K)
        self.top_k.setSpecialValueText("off")
        self.top_k.setToolTip("Keep the k likeliest tokens")
        self.top_p = NumberBox("Top-p", *TOP_P, 0.05)
        self.top_p.setToolTip("Keep the smallest set whose probability reaches p; 1 keeps all")
        self.min_p = NumberBox("Min-p", *MIN_P, 0.01)
        self.min_p.setSpecialValueText("off")
        self.min_p.setToolTip("Drop tokens below this share of the likeliest one's probability")
        self.seed = QLineEdit()
        self.seed.setAccessibleName("Seed")
        self.seed.setPlaceholderText("random")
        self.seed.setToolTip("The same seed makes the same choices; empty draws a fresh one")
        self.seed.setValidator(
            QRegularExpressionValidator(QRegularExpression(rf"\d{{0,{SEED_DIGITS}}}"), self.seed)
        )
        self.seed.setAlignment(Qt.AlignmentFlag.AlignRight)
        self._grid = QGridLayout(self)
        self._grid.setContentsMargins(0, 0, 0, 0)
        self._grid.setHorizontalSpacing(_GAP)
        self._grid.setVerticalSpacing(3)
        self._columns = 0
        fields: list[tuple[str, QSpinBox | NumberBox | QLineEdit]] = [
            ("Tokens", self.max_tokens),
            ("Temp.", self.temperature),
            ("Top-k", self.top_k),
            ("Top-p", self.top_p),
            ("Min-p", self.min_p),
            ("Seed", self.seed),
        ]
        self.fields = [(DeskLabel(title, small=True, quiet=True), field) for title, field in fields]
        for label, field in self.fields:
            label.setBuddy(field)
        self._size_seed()
        self._grid.setColumnStretch(len(fields), 1)
        self._arrange(len(fields))
        self.set_sampling(Sampling())
        for box in (self.max_tokens, self.top_k):
            box.valueChanged.connect(lambda _: self.changed.emit())
        for number in (self.temperature, self.top_p, self.min_p):
            number.valueChanged.connect(lambda _: self.changed.emit())
        self.seed.textEdited.connect(lambda _: self.changed.emit())

    @property
    def sampling(self) -> Sampling:
        """Where the controls stand."""
        return Sampling(
            max_tokens=self.max_tokens.value(),
            temperature=self.temperature.value(),
            top_k=self.top_k.value(),
            top_p=self.top_p.value(),
            min_p=self.min_p.value(),
            seed=int(self.seed.text()) if self.seed.text() else None,
        )

    def set_sampling(self, sampling: Sampling) -> None:
        """Show where the controls stand, without emitting."""
        with QSignalBlocker(self):
            self.max_tokens.setValue(sampling.max_tokens)
            self.temperature.setValue(sampling.temperature)
            self.top_k.setValue(sampling.top_k)
            self.top_p.setValue(sampling.top_p)
            self.min_p.setValue(sampling.min_p)
            seed = "" if sampling.seed is None else str(sampling.seed)
            if seed != self.seed.text():
                self.seed.setText(seed)

    def changeEvent(self, event: QEvent) -> None:
        """Give the seed's field the room its font takes."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.FontChange:
            self._size_seed()

    def _size_seed(self) -> None:
        self.seed.setFixedWidth(self.seed.fontMetrics().horizontalAdvance("random") + 18)

    def sizeHint(self) -> QSize:
        """Ask for the room of one row."""
        return QSize(self._width(len(self.fields)), super().sizeHint().height())

    def minimumSizeHint(self) -> QSize:
        """Take no less than two rows need."""
        return QSize(self._width(len(self.fields) // 2), super().sizeHint().height())

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Break the row in two, or join it again."""
        super().resizeEvent(event)
        whole = len(self.fields)
        self._arrange(whole if self.width() >= self._width(whole) else whole // 2)

    def _width(self, columns: int) -> int:
        """Return how wide the fields are in so many columns."""
        widths: list[int] = [
            max(label.sizeHint().width(), min(field.sizeHint().width(), field.maximumWidth()))
            for label, field in self.fields
        ]
        rows = [widths[start : start + columns] for start in range(0, len(widths), columns)]
        widest: list[int] = [max(column) for column in zip(*rows, strict=True)]
        return sum(widest) + _GAP * (columns - 1)

    def _arrange(self, columns: int) -> None:
        if columns == self._columns:
            return
        self._columns = columns
        for index, (label, field) in enumerate(self.fields):
            row, column = divmod(index, columns)
            self._grid.addWidget(label, 2 * row, column)
            self._grid.addWidget(field, 2 * row + 1, column)
        self.updateGeometry()


def _whole_number(name: str, low: int, high: int) -> QSpinBox:
    box = QSpinBox()
    box.setRange(low, high)
    box.setKeyboardTracking(False)
    box.setButtonSymbols(QAbstractSpinBox.ButtonSymbols.NoButtons)
    box.setAlignment(Qt.AlignmentFlag.AlignRight)
    name_control(box, name)
    return box
