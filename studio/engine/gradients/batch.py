"""Sequences to learn from that run side by side, the shorter ones padded."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Example
    from studio.engine.backend import HostArray


LEAST_POSITIONS = 64
"""How many positions a part has at least: products of fewer columns are slow."""


@dataclass(frozen=True)
class LearningBatch:
    """N sequences of at most T predictions.

    Attributes
    ----------
    tokens
        int64 ``[N, T]``: all that is read; the last token of each is only predicted.
    targets
        int64 ``[N * T]``: what each position is to predict.
    weights
        float32 ``[N * T]``: how much that counts; 0 in the padding.
    horizon
        How long the longest sequence is, the token that is only predicted among it.
    """

    tokens: HostArray
    targets: HostArray
    weights: HostArray
    horizon: int

    @classmethod
    def of(cls, examples: Sequence[Example]) -> LearningBatch:
        """Put examples side by side."""
        longest = max(len(example.tokens) for example in examples) - 1
        tokens = np.zeros((len(examples), longest), dtype=np.int64)
        targets, weights = np.zeros_like(tokens), np.zeros(tokens.shape, dtype=np.float32)
        for row, example in enumerate(examples):
            count = len(example.tokens) - 1
            tokens[row, :count] = example.tokens[:-1]
            tokens[row, count:] = example.tokens[-1]
            targets[row, :count] = example.tokens[1:]
            weights[row, :count] = example.weights[1:]
        return cls(tokens, targets.reshape(-1), weights.reshape(-1), longest + 1)

    @property
    def columns(self) -> HostArray:
        """The positions that count, ``[C]``: all others need not go through the head."""
        return np.flatnonzero(self.weights)

    def spans(self, most: int) -> list[slice]:
        """Share the positions out among at most so many parts of about the same work."""
        length = self.tokens.shape[1]
        count = max(1, min(most, length // LEAST_POSITIONS))
        ends = [round(length * number / count) for number in range(count + 1)]
        return [slice(start, stop) for start, stop in pairwise(ends)]

    def part(self, span: slice) -> LearningBatch:
        """Return some of its positions."""
        rows = len(self.tokens)
        targets, weights = (
            array.reshape(rows, -1)[:, span].reshape(-1) for array in (self.targets, self.weights)
        )
        return LearningBatch(self.tokens[:, span], targets, weights, self.horizon)
