"""The next token of the base beside the blend's: divergence, entropies and the likeliest candidates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import FloatArray

DoubleArray: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Candidate:
    """One possible next token: its id, its text, and its probability under the base and the blend."""

    id: int
    piece: str
    p_base: float
    p_blend: float


@dataclass(frozen=True)
class NextToken:
    """How the blend changes the next token.

    Attributes
    ----------
    kl
        KL(blend || base) in nats.
    entropy_base
        Entropy of the base's distribution in nats.
    entropy_blend
        Entropy of the blend's distribution in nats.
    candidates
        The likeliest tokens of either, the blend's likeliest first.
    """

    kl: float
    entropy_base: float
    entropy_blend: float
    candidates: tuple[Candidate, ...]


def compare_next_token(
    base: FloatArray, blend: FloatArray, piece: Callable[[int], str], *, top: int = 20
) -> NextToken:
    """Compare two next-token distributions given by their logits ``[vocab]``.

    Parameters
    ----------
    base, blend
        Logits of the last position.
    piece
        Gives the text of a token, as `Tokenizer.piece` does.
    top
        How many of each distribution's likeliest tokens to list; the list is the union of both.
    """
    log_base, log_blend = log_softmax(base), log_softmax(blend)
    p_base, p_blend = np.exp(log_base), np.exp(log_blend)
    listed = sorted(
        {*likeliest(p_base, top), *likeliest(p_blend, top)},
        key=lambda token: (-p_blend[token], -p_base[token], token),
    )
    return NextToken(
        kl=divergence(log_blend, log_base),
        entropy_base=entropy(log_base),
        entropy_blend=entropy(log_blend),
        candidates=tuple(
            Candidate(token, piece(token), float(p_base[token]), float(p_blend[token])) for token in listed
        ),
    )


def log_softmax(logits: FloatArray) -> DoubleArray:
    """Return log-probabilities over the last axis in float64: float32 would lose the small ones."""
    shifted = logits.astype(np.float64) - np.max(logits, axis=-1, keepdims=True)
    return np.asarray(shifted - np.log(np.sum(np.exp(shifted), axis=-1, keepdims=True)))


def divergence(log_p: DoubleArray, log_q: DoubleArray) -> float:
    """Return KL(p || q) = sum p (log p - log q) in nats, never below 0."""
    p = np.exp(log_p)
    possible = p > 0  # 0 log 0 = 0
    return max(0.0, float(np.sum(p[possible] * (log_p - log_q)[possible])))


def entropy(log_p: DoubleArray) -> float:
    """Return -sum p log p in nats."""
    p = np.exp(log_p)
    possible = p > 0
    return max(0.0, float(-np.sum(p[possible] * log_p[possible])))


def likeliest(scores: np.ndarray[Any, Any], count: int) -> list[int]:
    """Return the indices of the largest of ``[vocab]``, largest first; on a tie the lower one comes first."""
    count = min(count, scores.size)
    if count <= 0:
        return []
    threshold = np.partition(scores, scores.size - count)[scores.size - count]
    contenders = np.flatnonzero(scores >= threshold)
    order = np.argsort(-scores[contenders], kind="stable")
    return [int(token) for token in contenders[order][:count]]
