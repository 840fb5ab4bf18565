"""The one thread that owns the engine: the newest evaluation first, generation token by token in between."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections import deque
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from psygnal import Signal

from studio.contracts import BASE_ALONE, Evaluation, SharingEngine
from studio.engine.blas_threads import one_blas_thread
from studio.errors import CancelledError, EngineError
from studio.jobs.failures import as_studio_error
from studio.jobs.generating import Generation
from studio.jobs.live import LiveResult, TooLongError
from studio.session.next_token import compare_next_token

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from psygnal import SignalInstance

    from studio.contracts import BaseModel, Cancelled, Engine, LearningEngine
    from studio.errors import StudioError
    from studio.jobs.live import GenerationRequest, LiveRequest

logger = logging.getLogger(__name__)

QUICK = 1.0
"""Seconds that a stale evaluation may take where the one before it was given up.

Without it a slider that is dragged without a pause would cancel every evaluation and show nothing.
"""


class EngineThread:
    """Runs an `Engine` on a thread of its own. All methods return at once; signals come from that thread.

    Attributes
    ----------
    opened
        Emitted with the `BaseModel` once the engine has it open; `description` may have changed.
    evaluated
        Emitted with a `LiveResult`.
    generated
        Emitted with a `GenerationUpdate`.
    refused
        Emitted with ``(BaseModel, StudioError)`` when the engine cannot open a base; `failed` follows.
    failed
        Emitted with a `StudioError`, whatever was raised; the thread goes on. A base that could not be opened
        fails again, with the same error object, at every request for it until `open` is called.
    busy_changed
        Emitted with True when work begins, False when the thread waits.
    """

    opened = Signal(object)
    refused = Signal(object)
    evaluated = Signal(object)
    generated = Signal(object)
    failed = Signal(object)
    busy_changed = Signal(bool)

    def __init__(self, engine: Engine) -> None:
        # Shared with the callers' threads, under the condition:
        self._condition = threading.Condition()
        self._numbers = itertools.count(1)
        self._commands: deque[Callable[[], None]] = deque()
        self._live: tuple[int, LiveRequest] | None = None
        self._wanted: BaseModel | None = None  # the base that was asked for last
        self._asked: set[Future[LearningEngine]] = set()  # siblings
        self._at_work = 0  # how many siblings are
        self._closing = False
        # The thread's own:
        self._engine = engine
        self._base: BaseModel | None = None
        self._refused: tuple[BaseModel, StudioError] | None = None
        self._tokens: tuple[LiveRequest, tuple[int, ...]] | None = None
        self._base_alone: Evaluation | None = None
        self._generation: Generation | None = None
        self._gave_up = False  # whether the last evaluation was
        self._evaluated_last = False
        self._busy = False
        # A daemon, so that an engine stuck inside one operation cannot keep the process alive.
        self._thread = threading.Thread(target=self._serve, name="engine", daemon=True)
        self._thread.start()

    @property
    def description(self) -> str:
        """Which backend runs and why."""
        return self._engine.description

    def open(self, base: BaseModel) -> None:
        """Open a base ahead of the first request for it (which would open it too). Ends any generation."""
        with self._condition:
            self._wanted = base
            if self._live is not None and self._live[1].base is not base:
                self._live = None
        self._command(lambda: self._open_anew(base))

    def evaluate(self, request: LiveRequest) -> int:
        """Ask for an evaluation and return its number. The newest request is always answered.

        An older one is given up at the engine's next layer. While sliders move without a pause, every second
        one may run to its end if it is `QUICK`, so that the picture moves too.
        """
        with self._condition:
            number = next(self._numbers)
            self._live = (number, request)
            self._wanted = request.base
            self._condition.notify()
        return number

    def generate(self, request: GenerationRequest) -> int:
        """Start a generation in place of the one under way, if any, and return its number."""
        with self._condition:
            number = next(self._numbers)
        self._command(lambda: self._start_generation(number, request))
        return number

    def stop_generation(self) -> None:
        """End the generation under way; its sides are reported as finished."""
        self._command(self._end_generation)

    def switch_engine(self, engine: Engine, base: BaseModel | None = None) -> None:
        """Go on with another engine, which has this base open already. The old one is closed."""
        self._command(lambda: self._exchange(engine, base))

    def sibling(self, base: BaseModel) -> Future[LearningEngine]:
        """Ask for another engine on the weights of this base, for long work on another thread.

        The future is cancelled when the thread closes first; it fails where the base is not the one asked for
        last, or the engine shares nothing.
        """
        asked: Future[LearningEngine] = Future()
        with self._condition:
            if self._closing:
                asked.cancel()
                return asked
            self._asked.add(asked)
        self._command(lambda: self._lend(base, asked))
        return asked

    @contextmanager
    def beside(self) -> Iterator[None]:
        """Say that a sibling is at work: whenever this engine computes too, BLAS keeps to their own threads.

        Threads that each ask for all cores stand in each other's way: on two cores answers took three times
        as long, and the training beside them, too.
        """
        with self._condition:
            self._at_work += 1
        try:
            yield
        finally:
            with self._condition:
                self._at_work -= 1

    def close(self, timeout: float = 2.0) -> bool:
        """Cancel everything, close the engine and wait for the thread; say whether it ended in time.

        Requests that come later are never answered.
        """
        with self._condition:
            self._closing = True
            self._condition.notify()
        self._thread.join(timeout)
        return not self._thread.is_alive()

    # The loop

    def _command(self, command: Callable[[], None]) -> None:
        with self._condition:
            self._commands.append(command)
            self._condition.notify()

    def _serve(self) -> None:
        while (work := self._next()) is not None:
            self._guard(work)
        self._guard(self._end_generation)
        self._guard(self._engine.close)
        for asked in self._asked:
            asked.cancel()

    def _next(self) -> Callable[[], None] | None:
        """Wait for something to do: commands first, then evaluations and tokens in turn. None: closing."""
        while True:
            with self._condition:
                if self._closing:
                    return None
                work = self._choose()
                if work is None and not self._busy:
                    self._condition.wait()
                    continue
            self._set_busy(work is not None)
            if work is not None:
                return work

    def _choose(self) -> Callable[[], None] | None:
        if self._commands:
            return self._commands.popleft()
        generation = self._generation
        token_first = generation is not None and (
            self._live is None or (self._evaluated_last and generation.begun)
        )
        if token_first:
            self._evaluated_last = False
            return self._generate_token
        if self._live is not None:
            (number, request), self._live = self._live, None
            self._evaluated_last = True
            return lambda: self._evaluate(number, request)
        return None

    def _guard(self, work: Callable[[], None]) -> None:
        """Do something and report whatever it raises: the edge of the thread."""
        try:
            with one_blas_thread() if self._at_work else nullcontext():
                work()
        except CancelledError:
            logger.debug("gave up stale work")
        except BaseException as error:
            self._gave_up = False
            self._emit(self.failed, as_studio_error(error))

    def _emit(self, signal: SignalInstance, value: Any) -> None:
        """Tell the listeners; one that fails does not harm the thread."""
        try:
            signal.emit(value)
        except Exception:
            logger.exception("a listener failed")

    def _set_busy(self, busy: bool) -> None:
        if busy != self._busy:
            self._busy = busy
            self._emit(self.busy_changed, busy)

    # Bases

    def _open_anew(self, base: BaseModel) -> None:
        self._refused = None
        self._ensure_open(base)

    def _ensure_open(self, base: BaseModel) -> None:
        if self._base is base:
            return
        if self._refused is not None and self._refused[0] is base:
            raise self._refused[1].with_traceback(None)
        self._end_generation()
        try:
            self._engine.open(base)
        except BaseException as error:
            refused = as_studio_error(error)
            self._refused = (base, refused)
            self._emit(self.refused, self._refused)
            raise refused from refused.__cause__
        self._base = base
        self._base_alone = None
        self._emit(self.opened, base)

    def _exchange(self, engine: Engine, base: BaseModel | None) -> None:
        self._end_generation()
        old, self._engine = self._engine, engine
        self._base, self._refused, self._base_alone = base, None, None
        old.close()

    def _lend(self, base: BaseModel, asked: Future[LearningEngine]) -> None:
        with self._condition:
            self._asked.discard(asked)
            wanted = self._wanted
        if not asked.set_running_or_notify_cancel():
            return
        try:
            if wanted is not None and wanted is not base:
                raise EngineError("another base is open by now", remedy="Begin again on that one")
            self._ensure_open(base)
            if not isinstance(self._engine, SharingEngine):
                raise EngineError("this engine does not learn", remedy="Choose one of this machine")
            asked.set_result(self._engine.sibling())
        except BaseException as error:
            asked.set_exception(as_studio_error(error))

    # Evaluations

    def _evaluate(self, number: int, request: LiveRequest) -> None:
        started = time.perf_counter()

        def stale() -> bool:
            return self._evaluation_stale(request, started)

        try:
            self._ensure_open(request.base)
            tokens = self._tokens_of(request)
            self._engine.attach(request.adapters)
            base = self._evaluate_base(tokens, stale)
            blend = base
            if request.state != BASE_ALONE:
                blend = self._engine.evaluate(tokens, request.state, cancelled=stale)
        except CancelledError:
            self._gave_up = True
            self._keep_for_later(number, request)
            raise
        tokenizer = request.tokenizer
        next_token = compare_next_token(base.logits, blend.logits, tokenizer.piece if tokenizer else str)
        milliseconds = 1000 * (time.perf_counter() - started)
        self._gave_up = False
        self._emit(self.evaluated, LiveResult(number, request, base, blend, next_token, milliseconds))

    def _evaluate_base(self, tokens: tuple[int, ...], stale: Cancelled) -> Evaluation:
        """Evaluate the base alone, once for the same tokens."""
        if self._base_alone is None or self._base_alone.tokens != tokens:
            self._base_alone = self._engine.evaluate(tokens, BASE_ALONE, cancelled=stale)
        return self._base_alone

    def _tokens_of(self, request: LiveRequest) -> tuple[int, ...]:
        """Return the prompt's tokens, kept from the request before where the text is the same."""
        before, tokens = self._tokens or (None, ())
        if before is None or before.tokenizer is not request.tokenizer or before.prompt != request.prompt:
            tokens = request.tokens()
            self._tokens = (request, tokens)
        most = self._engine.context_length
        if len(tokens) > most:
            raise TooLongError(
                f"the prompt has {len(tokens)} tokens, and the base takes {most}",
                remedy=f"Shorten the prompt to {most} tokens",
            )
        return tokens

    def _evaluation_stale(self, request: LiveRequest, started: float) -> bool:
        newer = self._live
        if self._closing or self._commands:
            return True
        if newer is None:
            return False
        only_sliders = newer[1].base is request.base and newer[1].prompt == request.prompt
        runs_on = only_sliders and self._gave_up and time.perf_counter() - started < QUICK
        return not runs_on

    def _keep_for_later(self, number: int, request: LiveRequest) -> None:
        """Ask again for what a command interrupted, unless something newer was asked for."""
        with self._condition:
            if self._commands and self._live is None and self._wanted is request.base:
                self._live = (number, request)

    # Generation

    def _start_generation(self, number: int, request: GenerationRequest) -> None:
        self._end_generation()
        self._ensure_open(request.live.base)
        tokens = self._tokens_of(request.live)
        self._generation = Generation(self._engine, number, request, tokens, self._generation_stale)

    def _generate_token(self) -> None:
        assert self._generation is not None
        try:
            update = self._generation.step()
        except CancelledError:
            if self._generation.begun:  # only the first step of a side can be taken again
                self._end_generation()
            raise
        except BaseException:
            self._end_generation()
            raise
        if self._generation.done:
            self._generation = None
        self._emit(self.generated, update)

    def _generation_stale(self) -> bool:
        """Give way to everything while the prompt is being read, which may take long and can start again."""
        if self._generation is not None and self._generation.begun:
            return self._closing
        return self._closing or bool(self._commands) or self._live is not None

    def _end_generation(self) -> None:
        if self._generation is not None:
            ended, self._generation = self._generation.stop(), None
            for update in ended:
                self._emit(self.generated, update)
