"""Edits a few examples of what is wanted: a list, and the prompt and text of the one that is chosen."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, Signal
from PySide6.QtWidgets import (
    QCheckBox,
    QFrame,
    QHBoxLayout,
    QListWidget,
    QPlainTextEdit,
    QPushButton,
    QVBoxLayout,
    QWidget,
)

from studio.gui.controls import DeskLabel
from studio.learning.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Sequence

TITLE_LENGTH = 60


class WantedEditor(QWidget):
    """Always holds one example at least, which may be empty. Its setters never emit."""

    changed = Signal()
    """The user wrote, added or removed something."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._wanted: list[Wanted] = [Wanted()]
        self.list = QListWidget()
        self.list.setAccessibleName("Examples")
        self.list.setMaximumHeight(92)
        self.list.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.list.setTextElideMode(Qt.TextElideMode.ElideRight)
        self.add_button = QPushButton("Add")
        self.add_button.setAccessibleName("Add an example")
        self.remove_button = QPushButton("Remove")
        self.remove_button.setAccessibleName("Remove the example")
        self.chat_box = QCheckBox("Chat template")
        self.chat_box.setAccessibleName("Put prompt and answer through the chat template")
        self.prompt = _field("Prompt", "Optional: what the model is given. It is only read.")
        self.text = _field("Wanted text", "What the blend should write.")
        self._lay_out()
        self._show_list(0)
        self.list.currentRowChanged.connect(lambda _: self._show_chosen())
        self.add_button.clicked.connect(self._add)
        self.remove_button.clicked.connect(self._remove)
        self.chat_box.toggled.connect(lambda _: self._take())
        for field in (self.prompt, self.text):
            field.textChanged.connect(self._take)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """The examples that say something."""
        return tuple(one for one in self._wanted if one.text)

    def set_wanted(self, wanted: Sequence[Wanted]) -> None:
        """Show these examples."""
        self._wanted = list(wanted) or [Wanted()]
        self._show_list(0)

    def set_chat_available(self, available: bool) -> None:
        """Say whether the base has a chat template."""
        self.chat_box.setEnabled(available)

    def _take(self) -> None:
        """Take over what was written."""
        row = max(self.list.currentRow(), 0)
        chat = self.chat_box.isChecked()
        self._wanted[row] = Wanted(self.text.toPlainText(), self.prompt.toPlainText(), chat)
        self.list.item(row).setText(title_of(self._wanted[row]))
        self.changed.emit()

    def _add(self) -> None:
        last = self._wanted[-1]
        self._wanted.append(replace(last, text="", prompt=""))
        self._show_list(len(self._wanted) - 1)
        self.prompt.setFocus()
        self.changed.emit()

    def _remove(self) -> None:
        row = max(self.list.currentRow(), 0)
        del self._wanted[row]
        self._wanted = self._wanted or [Wanted()]
        self._show_list(min(row, len(self._wanted) - 1))
        self.changed.emit()

    def _show_list(self, row: int) -> None:
        blocked = self.list.blockSignals(True)
        self.list.clear()
        self.list.addItems([title_of(one) for one in self._wanted])
        self.list.setCurrentRow(row)
        self.list.blockSignals(blocked)
        self._show_chosen()

    def _show_chosen(self) -> None:
        one = self._wanted[max(self.list.currentRow(), 0)]
        for field, text in ((self.prompt, one.prompt), (self.text, one.text)):
            if field.toPlainText() != text:
                blocked = field.blockSignals(True)
                field.setPlainText(text)
                field.blockSignals(blocked)
        blocked = self.chat_box.blockSignals(True)
        self.chat_box.setChecked(one.chat)
        self.chat_box.blockSignals(blocked)
        self.remove_button.setEnabled(len(self._wanted) > 1 or bool(one.text or one.prompt))

    def _lay_out(self) -> None:
        buttons = QVBoxLayout()
        buttons.setSpacing(6)
        for button in (self.add_button, self.remove_button):
            button.setAutoDefault(False)
            buttons.addWidget(button)
        buttons.addStretch(1)
        head = QHBoxLayout()
        head.setSpacing(8)
        head.addWidget(self.list, 1)
        head.addLayout(buttons)
        prompt = QHBoxLayout()
        prompt.addWidget(DeskLabel("After the prompt", small=True, quiet=True), 1)
        prompt.addWidget(self.chat_box)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(5)
        layout.addLayout(head)
        layout.addLayout(prompt)
        layout.addWidget(self.prompt, 2)
        layout.addWidget(DeskLabel("the blend should write", small=True, quiet=True))
        layout.addWidget(self.text, 3)


def title_of(wanted: Wanted) -> str:
    """Return an example on one line."""
    text = " ".join(f"{wanted.prompt} → {wanted.text}".split()).removeprefix("→ ")
    if not wanted.text and not wanted.prompt:
        return "empty"
    return text if len(text) <= TITLE_LENGTH else text[: TITLE_LENGTH - 1] + "…"


def _field(name: str, hint: str) -> QPlainTextEdit:
    field = QPlainTextEdit()
    field.setAccessibleName(name)
    field.setPlaceholderText(hint)
    field.setTabChangesFocus(True)
    field.setFrameShape(QFrame.Shape.StyledPanel)
    field.setMinimumHeight(46)
    return field
