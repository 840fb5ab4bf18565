"""The prompt: its text, the chat template switch, and how many tokens it makes."""

from __future__ import annotations

from PySide6.QtCore import QEvent, QMimeData, QSize, Qt, Signal
from PySide6.QtGui import QKeyEvent, QTextCursor
from PySide6.QtWidgets import QCheckBox, QFrame, QHBoxLayout, QPlainTextEdit, QVBoxLayout, QWidget

from studio.gui.controls import DeskLabel, set_text_colour
from studio.gui.theme import current_theme

LONGEST_WORD = 10_000
"""Characters without a space that still wrap: Qt takes seconds to break a hundred thousand."""


class PromptPanel(QWidget):
    """Edits the prompt. Setters never emit."""

    prompt_changed = Signal(str, bool)
    """(text, chat): at every keystroke and when the chat template is switched."""
    generate_requested = Signal()
    """Ctrl+Return in the text."""

    def __init__(self, parent: QWidget | None = None) -> None:
        super().__init__(parent)
        self.editor = _PromptEditor()
        self.editor.setAccessibleName("Prompt")
        self.editor.setPlaceholderText("Type a prompt; the next token follows every keystroke.")
        self.editor.setFrameShape(QFrame.Shape.StyledPanel)
        self.editor.setTabChangesFocus(True)
        self.editor.document().setDocumentMargin(8)
        self.chat_box = QCheckBox("Chat template")
        self.chat_box.setAccessibleName("Use the chat template")
        self.chat_box.setToolTip("Send the prompt as a user's message, in the form the model was trained on")
        self.error_label = DeskLabel(small=True, elided=True)
        self.count_label = DeskLabel(small=True, quiet=True)
        self.count_label.setAccessibleName("Prompt length")
        foot = QHBoxLayout()
        foot.setSpacing(12)
        foot.addWidget(self.chat_box)
        foot.addWidget(self.error_label, 1)
        foot.addWidget(self.count_label)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(8, 6, 8, 8)
        layout.setSpacing(6)
        layout.addWidget(self.editor, 1)
        layout.addLayout(foot)
        self._count: tuple[int | None, int | None] = (None, None)
        self.set_token_count(None)
        self._take_colours()

        self.editor.textChanged.connect(self._announce)
        self.chat_box.toggled.connect(self._announce)
        self.editor.submitted.connect(self.generate_requested)

    @property
    def text(self) -> str:
        """The text as it stands."""
        return self.editor.toPlainText()

    @property
    def chat(self) -> bool:
        """Whether the chat template is asked for."""
        return self.chat_box.isChecked()

    def set_prompt(self, text: str, chat: bool) -> None:
        """Show a prompt; the cursor stays where it is when the text is the same."""
        if text != self.text:
            blocked = self.editor.blockSignals(True)
            self.editor.wrap_for(text)
            self.editor.setPlainText(text)
            self.editor.moveCursor(QTextCursor.MoveOperation.End)
            self.editor.blockSignals(blocked)
        blocked = self.chat_box.blockSignals(True)
        self.chat_box.setChecked(chat)
        self.chat_box.blockSignals(blocked)

    def insert_text(self, text: str) -> None:
        """Append text the way typing does: it emits, and undoes as one step."""
        self.editor.moveCursor(QTextCursor.MoveOperation.End)
        self.editor.insertPlainText(text)
        self.editor.ensureCursorVisible()

    def set_chat_available(self, available: bool) -> None:
        """Say whether the base has a chat template."""
        self.chat_box.setEnabled(available)
        self.chat_box.setToolTip(
            "Send the prompt as a user's message, in the form the model was trained on"
            if available
            else "This base has no chat template"
        )

    def set_token_count(self, count: int | None, limit: int | None = None) -> None:
        """Show how many tokens the prompt makes, of how many the base takes; None: not known."""
        self._count = (count, limit)
        if count is None:
            self.count_label.setText("– tokens")
        elif limit is None:
            self.count_label.setText(f"{count:,} token{'s' * (count != 1)}")
        else:
            self.count_label.setText(f"{count:,} / {limit:,} tokens")
        self._take_colours()

    def set_error(self, message: str) -> None:
        """Show why the prompt cannot be used (its template, its length); empty clears it."""
        self.error_label.setText(message)
        self.error_label.setToolTip(message)

    def _announce(self) -> None:
        self.prompt_changed.emit(self.text, self.chat)

    def _take_colours(self) -> None:
        theme = current_theme()
        count, limit = self._count
        over = count is not None and limit is not None and count > limit
        set_text_colour(self.count_label, theme.danger if over else theme.faint)
        set_text_colour(self.error_label, theme.danger)

    def changeEvent(self, event: QEvent) -> None:
        """Follow the theme."""
        super().changeEvent(event)
        if event.type() == QEvent.Type.PaletteChange:
            self._take_colours()


class _PromptEditor(QPlainTextEdit):
    """A text field in which Ctrl+Return submits."""

    submitted = Signal()

    def wrap_for(self, text: str) -> None:
        """Wrap lines, but not around a text that Qt would lay out for seconds."""
        mode = QPlainTextEdit.LineWrapMode
        wraps = max(map(len, text.split())) <= LONGEST_WORD if text.strip() else True
        self.setLineWrapMode(mode.WidgetWidth if wraps else mode.NoWrap)

    def insertFromMimeData(self, source: QMimeData) -> None:
        """Paste, or drop text."""
        if source.hasText():
            self.wrap_for(source.text())
        super().insertFromMimeData(source)

    def keyPressEvent(self, event: QKeyEvent) -> None:
        """Submit, or type."""
        enter = event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter)
        if enter and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.submitted.emit()
        else:
            super().keyPressEvent(event)

    def sizeHint(self) -> QSize:
        """Ask for about five lines."""
        return QSize(420, 5 * self.fontMetrics().lineSpacing() + 24)

    def minimumSizeHint(self) -> QSize:
        """Keep two lines."""
        return QSize(160, 2 * self.fontMetrics().lineSpacing() + 20)
