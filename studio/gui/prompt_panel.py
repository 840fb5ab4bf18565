"""The prompt: its text, the chat template switch, and how many tokens it makes."""

from __future__ import annotations

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget


class PromptPanel(QWidget):
    """Edits the prompt. Setters never emit."""

    prompt_changed = Signal(str, bool)
    """(text, chat): at every keystroke and when the chat template is switched."""
    generate_requested = Signal()
    """Ctrl+Return in the text."""

    def set_prompt(self, text: str, chat: bool) -> None:
        """Show a prompt; the cursor stays where it is when the text is the same."""

    def insert_text(self, text: str) -> None:
        """Append text the way typing does (it emits, and undoes as one step)."""

    def set_chat_available(self, available: bool) -> None:
        """Say whether the base has a chat template."""

    def set_token_count(self, count: int | None, limit: int | None = None) -> None:
        """Show how many tokens the prompt makes, of how many the base takes; None: not known."""

    def set_error(self, message: str) -> None:
        """Show why the prompt cannot be used (its template, its length); empty clears it."""
