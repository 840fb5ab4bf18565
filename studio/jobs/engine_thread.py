"""The one thread that owns the engine: the newest evaluation first, generation a token at a time in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from studio.contracts import BaseModel, Engine
    from studio.jobs.live import GenerationRequest, LiveRequest


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
    failed
        Emitted with a `StudioError`, whatever was raised; the thread goes on. A base that the engine refused is
        refused again, with the same error object, at every request for it.
    busy_changed
        Emitted with True when work begins, False when the thread waits.
    """

    opened = Signal(object)
    evaluated = Signal(object)
    generated = Signal(object)
    failed = Signal(object)
    busy_changed = Signal(bool)

    def __init__(self, engine: Engine) -> None: ...

    @property
    def description(self) -> str:
        """Which backend runs and why."""
        raise NotImplementedError

    def open(self, base: BaseModel) -> None:
        """Open a base ahead of the first request for it (a request opens its base anyway). Ends any generation."""

    def evaluate(self, request: LiveRequest) -> int:
        """Ask for an evaluation and return its number. Only the newest request is answered."""
        raise NotImplementedError

    def generate(self, request: GenerationRequest) -> int:
        """Start a generation in place of the one under way, if any, and return its number."""
        raise NotImplementedError

    def stop_generation(self) -> None:
        """End the generation under way; its sides are reported as finished."""

    def switch_engine(self, engine: Engine) -> None:
        """Go on with another engine, such as one on the CPU after the GPU failed. The old one is closed."""

    def close(self, timeout: float = 2.0) -> bool:
        """Cancel everything, close the engine and wait for the thread; say whether it ended in time."""
        raise NotImplementedError
