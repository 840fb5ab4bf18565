"""Sums of deltas, which stay in factors: the sum as heard, with a weight of its own, or the mean."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from studio.lora.algebra.compression import compress
from studio.lora.algebra.ranks import RankLimit
from studio.lora.combining import concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import DeltaPart

VANISHING = 1e-8
"""Weights that add up to less than this are not divided by."""


def cat(module: str, parts: Sequence[DeltaPart]) -> DeltaPart:
    """Put the factors side by side: sum_i s_i dW_i, exact, of the sum of the ranks."""
    return concatenate(parts)


def linear(module: str, parts: Sequence[DeltaPart], *, normalise: bool) -> DeltaPart:
    """Return sum_i w_i dW_i, or that over sum_i w_i, with w_i what the user's controls say.

    It is the true sum of the deltas. PEFT's method of this name adds factors, which is something else: see
    `per_factor`.
    """
    total = sum(part.weight for part in parts)
    return _scaled(parts, 1 / total if normalise and abs(total) > VANISHING else 1.0)


def task_arithmetic(module: str, parts: Sequence[DeltaPart], *, lambda_: float) -> DeltaPart:
    """Return lambda sum_i s_i dW_i (Ilharco et al. 2022, https://arxiv.org/abs/2212.04089)."""
    return _scaled(parts, lambda_)


def average(module: str, parts: Sequence[DeltaPart]) -> DeltaPart:
    """Return the mean of the deltas as they are heard, over the adapters that have the module."""
    return _scaled(parts, 1 / len(parts))


def svd(module: str, parts: Sequence[DeltaPart], *, rank: int, energy: float) -> DeltaPart:
    """Return the best approximation of the sum that has this rank, or keeps this share of its energy."""
    return compress(concatenate(parts), RankLimit(rank, energy))


def _scaled(parts: Sequence[DeltaPart], factor: float) -> DeltaPart:
    return concatenate([replace(part, scale=part.scale * factor) for part in parts])
