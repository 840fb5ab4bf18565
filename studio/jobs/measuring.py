"""Measuring how well a blend predicts a text, in overlapping windows where it is longer than the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BlendState, Engine, FloatArray, Work


@dataclass(frozen=True)
class Measurement:
    """How a blend predicts given tokens.

    Attributes
    ----------
    tokens
        The tokens that were measured.
    logits
        float32 ``[vocab]`` of the last position, or ``[T, vocab]`` where all were asked for.
    scores
        float32 ``[T - 1]``: the log-probability of each token from the second on, given those before it.
    milliseconds
        Wall-clock time of all passes.
    """

    tokens: tuple[int, ...]
    logits: FloatArray
    scores: FloatArray
    milliseconds: float

    @property
    def mean_nll(self) -> float | None:
        """Mean negative log-likelihood in nats over the tokens from the second on; None of a single token."""
        raise NotImplementedError


def measure(
    engine: Engine, tokens: Sequence[int], state: BlendState, positions: Literal["last", "all"] = "last"
) -> Work:
    """Evaluate tokens of any number and return a `Measurement`. The engine has its base open and adapters attached.

    A text longer than the context runs in consecutive windows that overlap by half. Every token from the second on
    is scored exactly once and, after the first window, with at least half a context before it; the logits of a
    position are those that its next token was scored with.

    Raises
    ------
    EngineError
        If there are no tokens.
    """
    raise NotImplementedError
