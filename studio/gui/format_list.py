"""A list of things to choose from, each with its name and one sentence on what it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QModelIndex, QPersistentModelIndex, QRect, QSize, Qt
from PySide6.QtGui import QColor, QFontMetrics, QPainter, QResizeEvent, QTextLayout, QTextOption
from PySide6.QtWidgets import (
    QListWidget,
    QListWidgetItem,
    QStyle,
    QStyledItemDelegate,
    QStyleOptionViewItem,
    QWidget,
)

from studio.gui.shapes import mixed
from studio.gui.theme import current_theme, small_font, strong_font

if TYPE_CHECKING:
    from collections.abc import Sequence

SENTENCE = Qt.ItemDataRole.UserRole

_EDGE, _GAP, _LINES = 10, 2, 3


class FormatList(QListWidget):
    """Names with sentences; arrow keys and the mouse choose one."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self.setItemDelegate(_Delegate(self))
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollMode(QListWidget.ScrollMode.ScrollPerPixel)
        self.setResizeMode(QListWidget.ResizeMode.Adjust)
        self.setUniformItemSizes(False)

    def resizeEvent(self, event: QResizeEvent) -> None:
        """Break the sentences anew: a scroll bar takes room as well."""
        super().resizeEvent(event)
        self.scheduleDelayedItemsLayout()

    def set_entries(self, entries: Sequence[tuple[str, str]]) -> None:
        """Offer entries as (name, sentence)."""
        self.clear()
        for name, sentence in entries:
            item = QListWidgetItem(name)
            item.setData(SENTENCE, sentence)
            item.setData(Qt.ItemDataRole.AccessibleDescriptionRole, sentence)
            self.addItem(item)


class _Delegate(QStyledItemDelegate):
    """Paints a name over its sentence, which wraps."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex) -> QSize:
        width = self._list.viewport().width()
        sentence = _laid_out(index.data(SENTENCE), option, width - 2 * _EDGE)
        name = QFontMetrics(strong_font(option.font)).height()
        return QSize(width, name + _GAP + round(sentence.boundingRect().height()) + _EDGE + 4)

    def paint(
        self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex | QPersistentModelIndex
    ) -> None:
        theme = current_theme()
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        rect: QRect = option.rect
        painter.save()
        if chosen:
            painter.fillRect(rect, mixed(theme.panel, theme.accent, 0.14))
            painter.fillRect(QRect(rect.left(), rect.top(), 3, rect.height()), QColor(theme.accent))
        elif option.state & QStyle.StateFlag.State_MouseOver:
            painter.fillRect(rect, mixed(theme.panel, theme.text, 0.04))
        font = strong_font(option.font)
        painter.setFont(font)
        painter.setPen(QColor(theme.text))
        inside = rect.adjusted(_EDGE, _EDGE // 2 + 1, -_EDGE, 0)
        painter.drawText(inside, Qt.AlignmentFlag.AlignTop | Qt.AlignmentFlag.AlignLeft, str(index.data()))
        painter.setPen(QColor(theme.faint))
        top = inside.topLeft()
        top.setY(top.y() + QFontMetrics(font).height() + _GAP)
        _laid_out(index.data(SENTENCE), option, inside.width()).draw(painter, top)
        painter.restore()

    @property
    def _list(self) -> FormatList:
        parent = self.parent()
        assert isinstance(parent, FormatList)
        return parent


def _laid_out(text: str, option: QStyleOptionViewItem, width: int) -> QTextLayout:
    """Break a sentence into a few small lines."""
    layout = QTextLayout(text, small_font(option.font))
    wrapping = QTextOption()
    wrapping.setWrapMode(QTextOption.WrapMode.WordWrap)
    layout.setTextOption(wrapping)
    layout.beginLayout()
    height = 0.0
    for _ in range(_LINES):
        line = layout.createLine()
        if not line.isValid():
            break
        line.setLineWidth(max(width, 40))
        line.setPosition(line.position() + type(line.position())(0, height))
        height += line.height()
    layout.endLayout()
    return layout
