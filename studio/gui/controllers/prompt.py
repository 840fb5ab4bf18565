"""The prompt and the generation panel: text in, two streams out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal

from studio.errors import StudioError
from studio.jobs.live import GenerationRequest, GenerationUpdate, LiveRequest, Side
from studio.session.prompt import Prompt

if TYPE_CHECKING:
    from studio.contracts import BaseModel, Sampling
    from studio.gui.bridge import Bridge
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.engine_thread import EngineThread
    from studio.session.session import Session


class PromptController(QObject):
    """Keeps prompt and sampling the same in panel and session, and streams generations."""

    finished = Signal()
    """Emitted when both streams of a generation ended."""

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
        self._number = 0
        self._shown: dict[Side, int] = {}
        self._open: set[Side] = set()
        self._refusal: StudioError | None = None
        panel, generation = window.prompt, window.generation
        panel.prompt_changed.connect(self._edit)
        panel.generate_requested.connect(self.generate)
        window.next_token.piece_activated.connect(panel.insert_text)
        generation.generate_requested.connect(self.generate)
        generation.stop_requested.connect(engine.stop_generation)
        generation.sampling_changed.connect(self._sample)
        window.commands.generate.triggered.connect(self.generate)
        window.commands.stop.triggered.connect(engine.stop_generation)
        session.prompt_changed.connect(self._show_prompt)
        session.sampling_changed.connect(generation.set_sampling)
        session.base_changed.connect(self._show_base)
        bridge.newest(engine.generated, self._show, key=lambda update: (update.number, update.side))
        bridge.every(engine.failed, lambda error: self._end())
        bridge.every(engine.opened, lambda base: self._take_refusal(base, None))
        bridge.every(engine.refused, lambda refused: self._take_refusal(*refused))
        generation.set_sampling(session.sampling)
        self._show_prompt(session.prompt)
        self._show_base()
        self._set_running(False)

    def generate(self) -> None:
        """Continue the prompt with base and blend side by side, in place of a generation under way."""
        if self._obstacle():
            return  # Ctrl+Return in the prompt; the button and the next token view say why
        try:
            live = LiveRequest.of(self._session)
        except StudioError as error:
            self._notices.error("Cannot generate", error)
            return
        self._window.generation.clear()
        request = GenerationRequest(live, self._session.sampling)
        self._shown = dict.fromkeys(request.sides, 0)
        self._open = set(request.sides)
        self._set_running(True)
        self._number = self._engine.generate(request)

    def _show(self, update: GenerationUpdate) -> None:
        """Append what a stream gained since it was last shown; one update may stand for many tokens."""
        if update.number != self._number or update.side not in self._open:
            return
        panel = self._window.generation
        for piece in update.pieces[self._shown[update.side] :]:
            panel.append(update.side, piece)
        self._shown[update.side] = len(update.pieces)
        panel.set_status(update.side, f"{len(update.ids)} tokens · {update.tokens_per_second:.0f}/s")
        if update.finished:
            self._open.discard(update.side)
            if not self._open:
                self._end()

    def _end(self) -> None:
        self._open.clear()
        self._set_running(False)
        self.finished.emit()

    def _edit(self, text: str, chat: bool) -> None:
        self._session.prompt = Prompt(text, chat)

    def _sample(self, sampling: Sampling) -> None:
        self._session.sampling = sampling

    def _show_prompt(self, prompt: Prompt) -> None:
        self._window.prompt.set_prompt(prompt.text, prompt.chat)
        self._show_obstacle()

    def _show_base(self) -> None:
        tokenizer = self._session.tokenizer
        self._window.prompt.set_chat_available(tokenizer is not None and tokenizer.has_chat_template)
        self._refusal = None
        self._show_obstacle()

    def _take_refusal(self, base: BaseModel, refusal: StudioError | None) -> None:
        if base is self._session.base:
            self._refusal = refusal
            self._show_obstacle()

    def _obstacle(self) -> str:
        """Say why generating is not possible now; empty where it is."""
        tokenizer = self._session.tokenizer
        if tokenizer is None:
            return str(self._session.tokenizer_error or "Open a base model first")
        if self._refusal is not None:
            return str(self._refusal)
        return "Write a prompt first" if self._session.prompt.is_empty(tokenizer) else ""

    def _show_obstacle(self) -> None:
        reason = self._obstacle()
        self._window.generation.set_enabled(not reason, reason)
        self._window.commands.generate.setEnabled(not reason)
        self._window.commands.generate.setStatusTip(reason)

    def _set_running(self, running: bool) -> None:
        self._window.generation.set_running(running)
        self._window.commands.stop.setEnabled(running)
