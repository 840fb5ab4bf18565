"""The engine's door: what is asked of it and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

from studio.contracts.work import Cancelled, never

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from studio.contracts.adapters import DeltaAdapter
    from studio.contracts.mixer import BlendState
    from studio.contracts.models import BaseModel, FloatArray

Positions: TypeAlias = Literal["last", "all", "scores"]
"""What an evaluation returns: the last position's logits, every position's, or the last's and scores."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen. The default is greedy.

    Attributes
    ----------
    max_tokens
        How many tokens to make at most; fewer when the model ends its turn or the context is full.
    temperature
        0 is greedy.
    top_k
        Keep the k likeliest tokens; 0 keeps all.
    top_p
        Keep the smallest set whose probability reaches p; 1 keeps all.
    min_p
        Drop tokens below this share of the likeliest one's probability; 0 drops none.
    seed
        Seed of the random choice; None draws a fresh one.
    """

    max_tokens: int = 128
    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    seed: int | None = None


@dataclass(frozen=True)
class Evaluation:
    """The result of one forward pass, as plain NumPy.

    Attributes
    ----------
    tokens
        The tokens that were evaluated.
    state
        The blend they were evaluated with.
    logits
        float32 ``[vocab]`` of the last position, or ``[T, vocab]`` where all were asked for.
    scores
        float32 ``[T - 1]``: log-probability of each token from the second on, given those before it. None
        unless asked for.
    milliseconds
        Wall-clock time of the pass.
    """

    tokens: tuple[int, ...]
    state: BlendState
    logits: FloatArray
    scores: FloatArray | None
    milliseconds: float


class Engine(Protocol):
    """Turns (base, adapters, tokens, blend) into logits. One thread at a time may call it.

    Every method but `close` raises `EngineError` when no base is open or the device fails.
    """

    @property
    def description(self) -> str:
        """Which backend runs and why, in one line for the status bar."""

    @property
    def context_length(self) -> int:
        """The longest sequence the open base takes, in tokens."""

    def open(self, base: BaseModel) -> None:
        """Make this the base. Raises `UnsupportedError` for an unknown architecture; the old one stays."""

    def attach(self, adapters: Mapping[str, DeltaAdapter]) -> None:
        """Make exactly these adapters available, by the key that blends name them with."""

    def evaluate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        *,
        positions: Positions = "last",
        cancelled: Cancelled = never,
    ) -> Evaluation:
        """Run the tokens through the blend. Raises `CancelledError` at the next layer once cancelled."""

    def evaluate_many(
        self, tokens: Sequence[int], states: Sequence[BlendState], *, cancelled: Cancelled = never
    ) -> list[Evaluation]:
        """Evaluate the last position of the same tokens under several blends."""

    def evaluate_batch(
        self,
        sequences: Sequence[Sequence[int]],
        states: Sequence[BlendState],
        *,
        cancelled: Cancelled = never,
    ) -> list[Evaluation]:
        """Evaluate the last position of several sequences of any lengths, each under a blend of its own."""

    def generate(
        self,
        tokens: Sequence[int],
        state: BlendState,
        sampling: Sampling,
        *,
        stop: frozenset[int] = frozenset(),
        cancelled: Cancelled = never,
    ) -> Iterator[int]:
        """Yield new tokens one by one; a token in `stop` ends the stream and is not yielded.

        Other calls may come between two tokens: the stream keeps the adapters and the blend it began with.
        """

    def close(self) -> None:
        """Free the weights and the device."""
