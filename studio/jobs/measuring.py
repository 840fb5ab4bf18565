"""Measuring how well a blend predicts a text, in overlapping windows where it is longer than the context."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from studio.contracts import Progress
from studio.errors import EngineError
from studio.session.next_token import log_softmax

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
        return -float(np.mean(self.scores, dtype=np.float64)) if self.scores.size else None


@dataclass(frozen=True)
class Window:
    """One pass over a part of a text: it reads ``[start, stop)`` and scores the tokens ``[scored, stop)``."""

    start: int
    stop: int
    scored: int


def windows(length: int, context: int) -> list[Window]:
    """Cover a text by windows of the context's length that overlap by half.

    Every token from the second on is scored exactly once; after the first window each has at least half a
    context before it.
    """
    context = max(2, context)  # in a context of one token there is nothing to score
    stride = context // 2
    found = [Window(0, min(length, context), scored=1)]
    while found[-1].stop < length:
        start = found[-1].start + stride
        found.append(Window(start, min(length, start + context), scored=found[-1].stop))
    return found


def measure(
    engine: Engine, tokens: Sequence[int], state: BlendState, positions: Literal["last", "all"] = "last"
) -> Work:
    """Evaluate tokens of any number and return a `Measurement`.

    The engine has its base open and its adapters attached. A text longer than the context runs in `windows`;
    the logits of a position are those that its next token is scored with.

    Raises
    ------
    EngineError
        If there are no tokens.
    """
    if not tokens:
        raise EngineError("there are no tokens to evaluate", remedy="Give a text of at least one token")
    every = positions == "all"
    plan = windows(len(tokens), engine.context_length)
    scores = np.empty(len(tokens) - 1, dtype=np.float32)
    logits: FloatArray = np.empty(0, dtype=np.float32)
    milliseconds = 0.0
    for number, window in enumerate(plan):
        yield Progress(number, len(plan), f"Evaluating window {number + 1} of {len(plan)}")
        part = tokens[window.start : window.stop]
        evaluation = engine.evaluate(part, state, positions="all" if every else "scores")
        milliseconds += evaluation.milliseconds
        before, skipped = window.scored - 1, window.scored - 1 - window.start
        if not every:
            assert evaluation.scores is not None
            scores[before : window.stop - 1] = evaluation.scores[skipped:]
            logits = evaluation.logits
            continue
        if len(plan) == 1:
            logits = evaluation.logits  # as they are: a copy would double the largest array there is
        elif number == 0:
            logits = np.empty((len(tokens), evaluation.logits.shape[-1]), dtype=np.float32)
        logits[before : window.stop] = evaluation.logits[skipped:]
        for position in range(before, window.stop - 1):  # one at a time: float64 [T, vocab] would be large
            scores[position] = log_softmax(logits[position])[tokens[position + 1]]
    return Measurement(tuple(int(token) for token in tokens), logits, scores, milliseconds)


def last_logits(engine: Engine, tokens: Sequence[int], state: BlendState) -> Work:
    """Evaluate tokens of any number in their last window alone, and return float32 ``[vocab]``.

    They are the logits of the last position that `measure` gives, without the windows before it.
    """
    yield Progress(0, 1, "Evaluating the last window")
    last = windows(len(tokens), engine.context_length)[-1]
    return engine.evaluate(tokens[last.start : last.stop], state).logits
