"""The next token's distribution, base beside blend, as bars."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from PySide6.QtCore import (
    QAbstractListModel,
    QModelIndex,
    QPersistentModelIndex,
    QPointF,
    QRectF,
    QSize,
    Qt,
    Signal,
)
from PySide6.QtGui import QColor, QPainter, QPen
from PySide6.QtWidgets import (
    QFrame,
    QHBoxLayout,
    QListView,
    QSizePolicy,
    QStackedWidget,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel, hint_label
from studio.gui.pieces import short_probability, visible_piece
from studio.gui.shapes import mixed
from studio.gui.theme import Theme, current_theme, small_font, strong_font

_ROW_HEIGHT, _MARGIN, _ARROW_WIDTH = 28, 10, 24
_SCALES = (0.05, 0.1, 0.25, 0.5, 1.0)


@dataclass(frozen=True)
class Candidate:
    """One candidate: its token id, its text, and its probability under base and blend."""

    token: int
    piece: str
    base: float
    blend: float


@dataclass(frozen=True)
class NextToken:
    """What the view shows.

    Attributes
    ----------
    candidates
        Likeliest first.
    kl
        KL(blend || base) in nats.
    base_entropy, blend_entropy
        In nats.
    milliseconds
        Time of the pass.
    """

    candidates: tuple[Candidate, ...]
    kl: float
    base_entropy: float
    blend_entropy: float
    milliseconds: float


class NextTokenView(QWidget):
    """Shows one `NextToken` at a time."""

    piece_activated = Signal(str)
    """(piece): a candidate was double-clicked or chosen with Return: append it to the prompt."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.model = CandidateModel(self)
        self.list = QListView()
        self.list.setModel(self.model)
        self.list.setItemDelegate(CandidateDelegate(self.list))
        self.list.setUniformItemSizes(True)
        self.list.setMouseTracking(True)
        self.list.setFrameShape(QFrame.Shape.NoFrame)
        self.list.setEditTriggers(QListView.EditTrigger.NoEditTriggers)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setAccessibleName("Next token candidates")
        self.list.setToolTip("Double-click or Return: append this token to the prompt")
        self.message_label = hint_label()
        self._pages = QStackedWidget()
        self._pages.addWidget(self.list)
        self._pages.addWidget(self.message_label)
        self.legend = _Legend()
        self.summary_label = DeskLabel(small=True, quiet=True, elided=True)
        self.summary_label.setAccessibleName("Distance of blend and base")
        self.time_label = DeskLabel(small=True, quiet=True)
        foot = QHBoxLayout()
        foot.setContentsMargins(_MARGIN, 5, _MARGIN, 7)
        foot.addWidget(self.summary_label, 1)
        foot.addWidget(self.time_label)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        layout.addWidget(self.legend)
        layout.addWidget(self._pages, 1)
        layout.addLayout(foot)
        self.list.activated.connect(self._activate)
        self.set_message("Open a base model and type a prompt.")

    def set_result(self, result: NextToken | None) -> None:
        """Show a result; None empties the view."""
        self.model.set_candidates(result.candidates if result else ())
        self.legend.set_scale(self.model.full_scale)
        if result is None:
            self.summary_label.clear()
            self.time_label.clear()
            return
        self._pages.setCurrentWidget(self.list)
        self.summary_label.setText(
            f"KL {result.kl:.2f} nats  ·  H {result.base_entropy:.2f} → {result.blend_entropy:.2f}"
        )
        self.summary_label.setToolTip(
            "KL(blend ‖ base): how far the blend is from the base. H: entropy, base → blend, in nats"
        )
        self.time_label.setText(f"{result.milliseconds:.0f} ms")

    def set_message(self, message: str) -> None:
        """Show why there is nothing to show, in place of bars; empty returns to the bars."""
        self.message_label.setText(message)
        if message:  # numbers of an earlier answer would seem to be this one's
            self.summary_label.clear()
            self.time_label.clear()
        self._pages.setCurrentWidget(self.message_label if message else self.list)

    def _activate(self, index: QModelIndex) -> None:
        self.piece_activated.emit(self.model.candidate(index).piece)


class CandidateModel(QAbstractListModel):
    """Candidates as a list; its rows are reused while only numbers change."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._candidates: tuple[Candidate, ...] = ()
        self.full_scale = 1.0

    def set_candidates(self, candidates: tuple[Candidate, ...]) -> None:
        """Replace the candidates, and choose the scale of the bars from a few round ones."""
        resized = len(candidates) != len(self._candidates)
        if resized:
            self.beginResetModel()
        self._candidates = candidates
        most = max((max(one.base, one.blend) for one in candidates), default=1.0)
        self.full_scale = next((scale for scale in _SCALES if most <= scale), 1.0)
        if resized:
            self.endResetModel()
        elif candidates:
            self.dataChanged.emit(self.index(0), self.index(len(candidates) - 1))

    def candidate(self, index: QModelIndex | QPersistentModelIndex) -> Candidate:
        """Return the candidate of a row."""
        return self._candidates[index.row()]

    def rowCount(self, parent: QModelIndex | QPersistentModelIndex | None = None) -> int:
        """Return how many candidates there are."""
        return 0 if parent is not None and parent.isValid() else len(self._candidates)

    def data(
        self, index: QModelIndex | QPersistentModelIndex, role: int = Qt.ItemDataRole.DisplayRole
    ) -> Any:
        """Return the text of a row, to show or to read aloud."""
        if not index.isValid():
            return None
        one = self.candidate(index)
        if role == Qt.ItemDataRole.DisplayRole:
            return visible_piece(one.piece)
        if role == Qt.ItemDataRole.AccessibleTextRole:
            return f"{visible_piece(one.piece)}: base {one.base:.1%}, blend {one.blend:.1%}"
        if role == Qt.ItemDataRole.ToolTipRole:
            return f"{one.piece!r}  ·  token {one.token}\nbase {one.base:.4f}\nblend {one.blend:.4f}"
        return None


class CandidateDelegate(QStyledItemDelegate):
    """Paints one candidate: its text, two thin bars, and the two probabilities."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        """Return the same height for every row."""
        return QSize(220, max(_ROW_HEIGHT, option.fontMetrics.height() + 12))

    def paint(
        self,
        painter: QPainter,
        option: QStyleOptionViewItem,
        index: QModelIndex | QPersistentModelIndex,
    ) -> None:
        """Paint the row."""
        model = index.model()
        if not isinstance(model, CandidateModel):
            return
        theme, one, rect = current_theme(), model.candidate(index), QRectF(option.rect)
        state = option.state
        painter.save()
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        if state & QStyle.StateFlag.State_Selected and state & QStyle.StateFlag.State_HasFocus:
            painter.fillRect(rect, mixed(theme.panel, theme.accent, 0.18))
        elif state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, mixed(theme.panel, theme.text, 0.05))
        metrics = option.fontMetrics
        painter.setFont(option.font)
        text_width = min(rect.width() * 0.3, 150.0)
        text_rect = QRectF(rect.left() + _MARGIN, rect.top(), text_width, rect.height())
        text = metrics.elidedText(visible_piece(one.piece), Qt.TextElideMode.ElideRight, int(text_width))
        painter.setPen(QColor(theme.text))
        middle = Qt.AlignmentFlag.AlignVCenter
        painter.drawText(text_rect, middle | Qt.AlignmentFlag.AlignLeft, text)
        numbers_width = 2 * metrics.horizontalAdvance("<.01") + 4 + _ARROW_WIDTH
        numbers = QRectF(rect.right() - _MARGIN - numbers_width, rect.top(), numbers_width, rect.height())
        bars = QRectF(
            text_rect.right() + 8, rect.top(), numbers.left() - text_rect.right() - 16, rect.height()
        )
        self._paint_bars(painter, bars, one, model.full_scale, theme)
        self._paint_numbers(painter, numbers, one, theme)
        painter.restore()

    def _paint_bars(self, painter: QPainter, rect: QRectF, one: Candidate, full: float, theme: Theme) -> None:
        """Paint the base's bar above the blend's."""
        painter.setPen(Qt.PenStyle.NoPen)
        for share, colour, top, height in (
            (one.base, theme.base, rect.height() / 2 - 8, 5.0),
            (one.blend, theme.blend, rect.height() / 2 - 1, 9.0),
        ):
            painter.setBrush(mixed(theme.panel, theme.line, 0.45))
            painter.drawRect(QRectF(rect.left(), rect.top() + top, rect.width(), height))
            painter.setBrush(QColor(colour))
            width = max(1.0, rect.width() * min(share / full, 1.0)) if share > 0 else 0.0
            painter.drawRect(QRectF(rect.left(), rect.top() + top, width, height))

    def _paint_numbers(self, painter: QPainter, rect: QRectF, one: Candidate, theme: Theme) -> None:
        """Paint base -> blend in columns; the blend's stands out where it differs by a hundredth or more."""
        middle = Qt.AlignmentFlag.AlignVCenter
        column = (rect.width() - _ARROW_WIDTH) / 2
        left = QRectF(rect.left(), rect.top(), column, rect.height())
        right = QRectF(rect.right() - column, rect.top(), column, rect.height())
        arrow = QRectF(left.right(), rect.top(), right.left() - left.right(), rect.height())
        painter.setPen(QColor(theme.faint))
        painter.drawText(left, middle | Qt.AlignmentFlag.AlignRight, short_probability(one.base))
        painter.drawText(arrow, Qt.AlignmentFlag.AlignCenter, "→")
        if abs(one.blend - one.base) >= 0.01:
            painter.setFont(strong_font(painter.font()))
            painter.setPen(QColor(theme.text))
        painter.drawText(right, middle | Qt.AlignmentFlag.AlignRight, short_probability(one.blend))


class _Legend(QWidget):
    """Names the two bars, the two numbers, and the scale of the bars."""

    def __init__(self) -> None:
        super().__init__()
        self._scale = 1.0
        self.setSizePolicy(QSizePolicy.Policy.Ignored, QSizePolicy.Policy.Fixed)
        self.setAccessibleName("Legend")

    def sizeHint(self) -> QSize:
        """Grow with the font."""
        return QSize(0, max(26, self.fontMetrics().height() + 6))

    def set_scale(self, full: float) -> None:
        """Say what a full bar means."""
        self._scale = full
        self.update()

    def paintEvent(self, event: object) -> None:
        """Paint the two swatches and the scale."""
        theme = current_theme()
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        painter.setFont(small_font(self.font()))
        middle = self.height() / 2
        x = float(_MARGIN)
        for word, colour in (("base", theme.base), ("blend", theme.blend)):
            painter.setPen(Qt.PenStyle.NoPen)
            painter.setBrush(QColor(colour))
            painter.drawRoundedRect(QRectF(x, middle - 4, 8, 8), 2, 2)
            painter.setPen(QColor(theme.faint))
            painter.drawText(QPointF(x + 13, middle + painter.fontMetrics().capHeight() / 2), word)
            x += 13 + painter.fontMetrics().horizontalAdvance(word) + 14
        scale, room = f"full bar = {self._scale:.0%}", self.rect().adjusted(int(x), 0, -_MARGIN, 0)
        if painter.fontMetrics().horizontalAdvance(scale) <= room.width():
            right = Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight
            painter.drawText(room, right, scale)
        painter.setPen(QPen(QColor(theme.line), 1))
        painter.drawLine(QPointF(0, self.height() - 0.5), QPointF(self.width(), self.height() - 0.5))
