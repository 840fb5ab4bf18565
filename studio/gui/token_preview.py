"""A text as the model will see it: what is predicted stands out, what is only read is grey."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QEvent
from PySide6.QtGui import QColor, QTextCharFormat, QTextCursor
from PySide6.QtWidgets import QFrame, QHBoxLayout, QPushButton, QTextEdit, QVBoxLayout, QWidget

from studio.gui.controls import DeskLabel
from studio.gui.shapes import mixed
from studio.gui.theme import current_theme

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    Pieces: TypeAlias = Sequence[tuple[str, bool]]

NOTHING = "Choose a file to see here what the model will read, and what it learns to write."


class TokenPreview(QWidget):
    """Shows one sequence of ``(text, predicted)`` pieces at a time; buttons go from one to the next."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self._sequences: list[Pieces] = []
        self._index = 0
        self._total = 0
        self.text = QTextEdit()
        self.text.setReadOnly(True)
        self.text.setTabChangesFocus(True)
        self.text.setFrameShape(QFrame.Shape.StyledPanel)
        self.text.setAccessibleName("What the model will see")
        self.text.setPlaceholderText(NOTHING)
        self.text.document().setDocumentMargin(8)
        self.caption = DeskLabel(small=True, quiet=True, elided=True)
        self.previous_button = QPushButton("‹")
        self.previous_button.setAccessibleName("Previous sequence")
        self.next_button = QPushButton("›")
        self.next_button.setAccessibleName("Next sequence")
        foot = QHBoxLayout()
        foot.setSpacing(6)
        foot.addWidget(self.caption, 1)
        for button in (self.previous_button, self.next_button):
            button.setAutoDefault(False)
            button.setFixedWidth(34)
            foot.addWidget(button)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(4)
        layout.addWidget(self.text, 1)
        layout.addLayout(foot)
        self.previous_button.clicked.connect(lambda: self._show(self._index - 1))
        self.next_button.clicked.connect(lambda: self._show(self._index + 1))
        self._show(0)

    def set_sequences(self, sequences: Sequence[Pieces], total: int) -> None:
        """Show the first of some sequences, of so many that there are in all."""
        self._sequences, self._total = list(sequences), total
        self._show(0)

    def _show(self, index: int) -> None:
        self._index = max(0, min(len(self._sequences) - 1, index))
        pieces = self._sequences[self._index] if self._sequences else ()
        theme = current_theme()
        self.text.clear()
        cursor = self.text.textCursor()
        for number, (text, predicted) in enumerate(pieces):
            look = QTextCharFormat()
            look.setForeground(QColor(theme.text if predicted else theme.faint))
            if predicted:  # the ground of every second one tells where a token ends
                look.setBackground(mixed(theme.panel, theme.blend, 0.16 if number % 2 else 0.09))
            cursor.insertText(text, look)
        self.text.moveCursor(QTextCursor.MoveOperation.Start)
        learnt = sum(predicted for _, predicted in pieces)
        self.caption.setText(
            f"{self._index + 1} of {self._total:,} · {len(pieces):,} tokens, {learnt:,} learnt"
            if pieces
            else ""
        )
        self.text.setAccessibleDescription(self.caption.text())
        self.previous_button.setEnabled(self._index > 0)
        self.next_button.setEnabled(self._index + 1 < len(self._sequences))

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange and hasattr(self, "next_button"):
            self._show(self._index)
