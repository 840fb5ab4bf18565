"""The way of one slider move: whatever changes what is heard asks the engine, and its answer is shown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from studio.errors import EngineError, StudioError
from studio.gui.next_token_view import Candidate, NextToken
from studio.jobs.live import LiveRequest, TooLongError

if TYPE_CHECKING:
    from studio.gui.bridge import Bridge
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.engine_thread import EngineThread
    from studio.jobs.live import LiveResult
    from studio.session.session import Session


class LiveController(QObject):
    """Keeps the next token view true to the session.

    The engine thread answers the newest request, and under an endless drag a slightly older one now and then;
    answers come in the order of their requests, so what arrives is always the newest there is.
    """

    shown = Signal(object)
    """(LiveResult): the view shows it now."""

    def __init__(
        self,
        session: Session,
        engine: EngineThread,
        window: MainWindow,
        bridge: Bridge,
        notices: Notices,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._engine = engine
        self._window = window
        self._notices = notices
        self._asking = False
        self._latency: float | None = None
        self.busy = False
        """Whether the engine is at work."""
        self._complaint = ""
        session.stack.changed.connect(self.refresh)
        session.prompt_changed.connect(self.refresh)
        session.base_changed.connect(self._open)
        bridge.newest(engine.evaluated, self._show)
        bridge.newest(engine.busy_changed, self._show_busy)
        bridge.every(engine.failed, self._fail)
        bridge.newest(engine.opened, lambda base: window.set_engine(engine.description))
        window.set_engine(engine.description)
        self.refresh()

    def refresh(self) -> None:
        """Ask for what the session holds now."""
        session, view = self._session, self._window.next_token
        self._asking = False
        if session.base is None:
            view.set_message("Open a base model to begin (Ctrl+B)")
        elif session.tokenizer is not None and session.prompt.is_empty(session.tokenizer):
            self._window.prompt.set_token_count(None)
            self._window.prompt.set_error("")
            view.set_message("Write a prompt to see what comes next")
        else:
            try:
                self._engine.evaluate(LiveRequest.of(session))
                self._asking = True
            except StudioError as error:
                self._fail(error)

    def _open(self) -> None:
        """Have the engine read a new base before the first question to it."""
        if self._session.base is not None:
            self._engine.open(self._session.base)
        self.refresh()

    def _show(self, result: LiveResult) -> None:
        if not self._asking or result.request.base is not self._session.base:
            return  # the answer to a question that no longer stands
        self._complaint = ""
        self._latency = result.milliseconds
        found = result.next_token
        self._window.next_token.set_message("")
        self._window.next_token.set_result(
            NextToken(
                tuple(Candidate(c.id, c.piece, c.p_base, c.p_blend) for c in found.candidates),
                found.kl,
                found.entropy_base,
                found.entropy_blend,
                result.milliseconds,
            )
        )
        self._window.prompt.set_error("")
        self._window.prompt.set_token_count(len(result.blend.tokens), self._context_length())
        self._window.set_latency(self._latency, busy=self.busy)
        self.shown.emit(result)

    def _fail(self, error: StudioError) -> None:
        """Show why there is no answer; the same complaint twice in a row raises one toast."""
        self._window.next_token.set_message(str(error))
        if isinstance(error, EngineError):
            self._window.prompt.set_error(error.message)
        if isinstance(error, TooLongError):
            return  # it is said beside the prompt, at every keystroke
        if str(error) != self._complaint:
            self._complaint = str(error)
            self._notices.error("The model cannot run", error)

    def _show_busy(self, busy: bool) -> None:
        self.busy = busy
        self._window.set_latency(self._latency, busy=busy)
        self._window.set_engine(self._engine.description)  # a stream may have loaded the kernels

    def _context_length(self) -> int | None:
        base = self._session.base
        length = base.metadata.get(f"{base.architecture}.context_length") if base else None
        return length if isinstance(length, int) else None
