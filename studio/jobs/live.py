"""What goes to the engine thread and what comes back from it: plain frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import BaseModel, BlendState, DeltaAdapter, Evaluation, Sampling
    from studio.engine.tokenizer import Tokenizer
    from studio.session.next_token import NextToken
    from studio.session.prompt import Prompt
    from studio.session.session import Session

Side: TypeAlias = Literal["base", "blend"]
"""Which of the two is meant: the base alone, or the blend."""


class TooLongError(EngineError):
    """The prompt has more tokens than the base's context."""


@dataclass(frozen=True)
class LiveRequest:
    """One question to the engine: this prompt, through this blend of these adapters on this base.

    `tokenizer` may be None where `prompt` is a tuple of token ids; tokens are then shown as numbers.
    """

    base: BaseModel
    tokenizer: Tokenizer | None
    adapters: Mapping[str, DeltaAdapter]
    prompt: Prompt | tuple[int, ...]
    state: BlendState

    @classmethod
    def of(cls, session: Session) -> LiveRequest:
        """Take a snapshot of a session, which may then change freely.

        Raises
        ------
        EngineError
            If the session has no base.
        StudioError
            If the base has no tokenizer: the session's `tokenizer_error`.
        """
        if session.base is None:
            raise EngineError("no base model is open", remedy="Open a base model first")
        if session.tokenizer_error is not None:
            raise session.tokenizer_error.with_traceback(None)
        stack = session.stack.snapshot()
        return cls(session.base, session.tokenizer, stack.members, session.prompt, stack.blend)

    def tokens(self) -> tuple[int, ...]:
        """Return the prompt as tokens. Raises `EngineError` for a text without a tokenizer."""
        if isinstance(self.prompt, tuple):
            return self.prompt
        if self.tokenizer is None:
            raise EngineError("the base has no tokenizer for this text", remedy="Give token ids instead")
        return self.prompt.tokens(self.tokenizer)


@dataclass(frozen=True)
class LiveResult:
    """The answer to a `LiveRequest`.

    Attributes
    ----------
    number
        What `EngineThread.evaluate` returned for the request.
    request
        The request that is answered.
    base
        The base alone on the same tokens (kept until the tokens or the base change).
    blend
        The blend.
    next_token
        The two compared.
    milliseconds
        Wall-clock time from the start of the work to this answer.
    """

    number: int
    request: LiveRequest
    base: Evaluation
    blend: Evaluation
    next_token: NextToken
    milliseconds: float


@dataclass(frozen=True)
class GenerationRequest:
    """A prompt to continue, side by side: the base alone and the blend, or one of them."""

    live: LiveRequest
    sampling: Sampling
    sides: tuple[Side, ...] = ("base", "blend")


@dataclass(frozen=True)
class GenerationUpdate:
    """How far one side of a generation is: one comes after every token, and one, finished, at the end.

    Attributes
    ----------
    number
        What `EngineThread.generate` returned for the request.
    side
        Which side this is.
    ids
        All tokens so far.
    pieces
        The text that each of them added; joined they are valid text at any time. A token in the middle of a
        character adds nothing until the character is whole.
    tokens_per_second
        Speed so far, the first token (the prompt's pass) not counted.
    finished
        Whether this side is done: at its end, stopped, or failed.
    """

    number: int
    side: Side
    ids: tuple[int, ...]
    pieces: tuple[str, ...]
    tokens_per_second: float
    finished: bool

    @property
    def text(self) -> str:
        """The text so far."""
        return "".join(self.pieces)
