"""A few facts in two columns, name and text, with a word of advice below them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent, Qt
from PySide6.QtGui import QPalette
from PySide6.QtWidgets import QFormLayout, QLabel, QVBoxLayout, QWidget

from studio.gui.controls import set_text_colour
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence


class FactList(QWidget):
    """Shows facts; labels are reused, so that changing them moves nothing."""

    def __init__(self, name: str, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.setAccessibleName(name)
        self._rows: list[tuple[QLabel, QLabel]] = []
        self._form = QFormLayout()
        self._form.setHorizontalSpacing(16)
        self._form.setVerticalSpacing(4)
        self._form.setLabelAlignment(Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignTop)
        self.advice = _wrapped()
        self.advice.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(8)
        layout.addLayout(self._form)
        layout.addWidget(self.advice)
        self._take_colours()

    @property
    def facts(self) -> list[tuple[str, str]]:
        """What it shows, as (name, text)."""
        return [(name.text(), text.text()) for name, text in self._rows]

    def set_facts(self, facts: Sequence[tuple[str, str]], advice: str = "") -> None:
        """Show facts as (name, text), and advice where there is any."""
        while len(self._rows) > len(facts):
            self._rows.pop()
            self._form.removeRow(len(self._rows))
        while len(self._rows) < len(facts):
            name, text = QLabel(), _wrapped()
            name.setForegroundRole(QPalette.ColorRole.PlaceholderText)
            self._form.addRow(name, text)
            self._rows.append((name, text))
        for labels, pair in zip(self._rows, facts, strict=True):
            for label, text_ in zip(labels, pair, strict=True):
                label.setText(text_)
        self.advice.setText(advice)
        self.advice.setVisible(bool(advice))
        self.setAccessibleDescription("; ".join([*(f"{name}: {text}" for name, text in facts), advice]))

    def _take_colours(self) -> None:
        set_text_colour(self.advice, current_theme().warning)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._take_colours()


def _wrapped() -> QLabel:
    label = QLabel()
    label.setTextFormat(Qt.TextFormat.PlainText)
    label.setWordWrap(True)
    label.setTextInteractionFlags(
        Qt.TextInteractionFlag.TextSelectableByMouse | Qt.TextInteractionFlag.TextSelectableByKeyboard
    )
    return label
