"""One sign for each weight, elected by the deltas, and the merging of those that agree with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.lora.algebra.singular import Doubles

Majority: TypeAlias = Literal["total", "frequency"]
"""Whether the sum of the deltas decides the sign, or how many have it."""

Divisor: TypeAlias = Literal["count", "weights", "nothing"]
"""What the sum of the agreeing deltas is divided by: how many agree, what their weights add up to, or 1."""


def agreeing(deltas: Doubles, majority: Majority) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """Say which of N deltas ``[N, ...]`` have the elected sign; a tie elects the positive one."""
    votes = deltas if majority == "total" else np.sign(deltas)
    elected = np.where(votes.sum(axis=0) >= 0, 1.0, -1.0)
    mask: np.ndarray[tuple[int, ...], np.dtype[np.bool_]] = np.sign(deltas) == elected
    return mask


def merge_agreeing(
    deltas: Doubles, weights: Sequence[float], majority: Majority, divide_by: Divisor
) -> Doubles:
    """Merge the deltas ``[N, ...]`` that have the elected sign: TIES's disjoint merge.

    Yadav et al. 2023, https://arxiv.org/abs/2306.01708, algorithm 1, divide by the count; with weights it is
    PEFT's way. mergekit divides by the weights or by nothing, as its `normalize` says.
    """
    agree = agreeing(deltas, majority)
    merged: Doubles = np.where(agree, deltas, 0.0).sum(axis=0)
    if divide_by == "nothing":
        return merged
    shares = np.ones(len(weights)) if divide_by == "count" else np.asarray(weights)
    divisors = np.tensordot(shares, agree.astype(np.float64), axes=1)
    return merged / np.where(divisors == 0, 1.0, divisors)
