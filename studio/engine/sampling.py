"""Choosing the next token from its logits: greedy, temperature, top-k, top-p, min-p."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.errors import EngineError

if TYPE_CHECKING:
    from studio.contracts import FloatArray, Sampling

Probabilities = np.ndarray[Any, np.dtype[np.float64]]


def choose_token(logits: FloatArray, sampling: Sampling, random: np.random.Generator) -> int:
    """Choose a token from the logits ``[V]``; temperature 0 takes the likeliest, the first of equals."""
    if sampling.temperature == 0:
        return int(np.argmax(logits))
    probabilities = token_probabilities(logits, sampling)
    edges = np.cumsum(probabilities)
    return int(np.searchsorted(edges, random.random() * edges[-1], side="right"))


def token_probabilities(logits: FloatArray, sampling: Sampling) -> Probabilities:
    """Return the distribution ``[V]`` that is drawn from, for a temperature above 0.

    The filters work in llama.cpp's order: top-k, top-p, min-p, each on the untempered probabilities of what
    the one before kept; the temperature comes last.
    """
    order = np.argsort(-logits, kind="stable")  # likeliest first
    if sampling.top_k:
        order = order[: sampling.top_k]
    plain = softmax(logits[order])
    if sampling.top_p < 1:
        before = np.cumsum(plain) - plain  # the mass of all likelier tokens
        order = order[: max(1, int(np.count_nonzero(before < sampling.top_p)))]
        plain = plain[: len(order)]
    if sampling.min_p > 0:
        order = order[plain >= sampling.min_p * plain[0]]
    probabilities = np.zeros(logits.shape, dtype=np.float64)
    probabilities[order] = softmax(logits[order] / sampling.temperature)
    return probabilities


def softmax(logits: FloatArray) -> Probabilities:
    """Turn logits ``[V]`` into probabilities ``[V]``."""
    weights: Probabilities = np.exp(logits.astype(np.float64) - np.float64(logits.max()))
    weights /= weights.sum()
    return weights


def check_sampling(sampling: Sampling) -> None:
    """Refuse settings that mean nothing. Raises `EngineError` naming the one at fault."""
    faults = {
        "max_tokens": (sampling.max_tokens >= 0, "from 0 on"),
        "temperature": (sampling.temperature >= 0 and math.isfinite(sampling.temperature), "from 0 on"),
        "top_k": (sampling.top_k >= 0, "from 0 on"),
        "top_p": (0 < sampling.top_p <= 1, "above 0 and at most 1"),
        "min_p": (0 <= sampling.min_p <= 1, "from 0 to 1"),
    }
    for field, (holds, remedy) in faults.items():
        if not holds:
            raise EngineError(
                f"{getattr(sampling, field)} is no {field}", where=field, remedy=f"Give a number {remedy}"
            )
