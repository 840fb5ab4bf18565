"""The examples of what the blend is to write: one home for all that measures a loss on the desk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from studio.jobs.borrowing import on_sibling
from studio.learning.wanted import Wanted

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.contracts import BaseModel, Example, LearningEngine, Work
    from studio.engine.tokenizer import Tokenizer
    from studio.gui.wanted_editor import WantedEditor
    from studio.jobs.engine_thread import EngineThread
    from studio.session.session import Session


class WantedController(QObject):
    """Keeps the examples, for every window that shows them; without any the prompt stands in."""

    changed = Signal()
    """Emitted when the examples that are measured on are others."""

    def __init__(self, session: Session, engine: EngineThread, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._engine = engine
        self._written: tuple[Wanted, ...] = ()
        self._editors: list[WantedEditor] = []
        session.prompt_changed.connect(self._follow_prompt)

    @property
    def wanted(self) -> tuple[Wanted, ...]:
        """What is measured on: the examples that were written, else the prompt as a text."""
        text = self._session.prompt.text
        return self._written or ((Wanted(text),) if text.strip() else ())

    def edited_in(self, editor: WantedEditor) -> None:
        """Take over what is written in an editor, from now on."""
        self._editors.append(editor)
        editor.changed.connect(lambda: self._take(editor))

    def show_in(self, editor: WantedEditor) -> None:
        """Show the examples in an editor; without any, the prompt waits for its answer."""
        tokenizer, prompt = self._session.tokenizer, self._session.prompt
        editor.set_chat_available(tokenizer is not None and tokenizer.has_chat_template)
        editor.set_wanted(self._written or (Wanted("", prompt.text, prompt.chat),))

    def work(
        self,
        base: BaseModel,
        tokenizer: Tokenizer,
        measure: Callable[[LearningEngine, Sequence[Example]], Work],
    ) -> Work:
        """Return work that measures the examples as they are now, on an engine of its own."""
        wanted = self.wanted

        def measured(engine: LearningEngine) -> Work:
            examples = [one.example(tokenizer) for one in wanted]
            return (yield from measure(engine, examples))

        return on_sibling(self._engine, base, measured)

    def _take(self, editor: WantedEditor) -> None:
        """Take over what was written in one editor, and show it in the others."""
        if editor.wanted != self._written:
            self._written = editor.wanted
            for other in self._editors:
                if other is not editor:
                    other.set_wanted(self._written)
            self.changed.emit()

    def _follow_prompt(self, prompt: object) -> None:
        if not self._written:
            self.changed.emit()
