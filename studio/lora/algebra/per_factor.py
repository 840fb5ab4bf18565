"""PEFT's way: A and B are combined each by itself, whose product is not the combination of the deltas."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.contracts import DeltaPart
from studio.errors import UnsupportedError
from studio.lora.algebra.election import Majority, agreeing
from studio.lora.algebra.pruning import generator_of, keep_by_chance

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.lora.algebra.singular import Doubles

Rule: TypeAlias = Literal["linear", "magnitude_prune", "ties", "dare_linear", "dare_ties"]
"""What is done to the As and to the Bs: PEFT's `combination_type`."""


def per_factor(
    module: str,
    parts: Sequence[DeltaPart],
    *,
    rule: Rule,
    density: float,
    majority: Majority,
    seed: int,
) -> DeltaPart:
    """Combine as PEFT's `add_weighted_adapter` does where its name has no `_svd`.

    https://github.com/huggingface/peft, tuners/lora/model.py and utils/merge_utils.py: each factor is
    weighted by the root of the adapter's scale, A by its sign too; pruning and the election of signs come
    before the weights. The product has mixed terms B_i A_j, so it is not what the blend sounds like.

    Raises
    ------
    UnsupportedError
        The adapters are of different ranks.
    """
    if len({part.a.shape[-2] for part in parts}) > 1:
        raise UnsupportedError(
            f"the adapters have ranks {', '.join(str(part.a.shape[-2]) for part in parts)}, "
            "and PEFT's factors add up for one rank alone",
            where=module,
            remedy="Resize them to one rank, or choose a method that works on deltas",
        )
    roots = np.array([math.sqrt(abs(part.scale)) for part in parts])
    signs = np.sign([part.scale for part in parts])

    def combine(factors: Sequence[np.ndarray[tuple[int, ...], np.dtype[np.float32]]], half: int) -> Doubles:
        pruned = np.stack(
            [
                _prune(factor.astype(np.float64), rule, density, generator_of(seed, module, half, position))
                for position, factor in enumerate(factors)
            ]
        )
        weights = (roots * signs if half == 0 else roots).reshape(-1, *[1] * (pruned.ndim - 1))
        if rule not in ("ties", "dare_ties"):
            return np.asarray((pruned * weights).sum(axis=0))
        agree = agreeing(pruned, majority)
        return np.asarray((pruned * weights * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1))

    a = combine([part.a for part in parts], 0).astype(np.float32)
    b = combine([part.b for part in parts], 1).astype(np.float32)
    return DeltaPart(a, b, 1.0)


def _prune(factor: Doubles, rule: Rule, density: float, generator: np.random.Generator) -> Doubles:
    if rule == "linear" or density >= 1:
        return factor
    if rule in ("dare_linear", "dare_ties"):
        return keep_by_chance(density, generator)(factor)
    kept = int(density * factor.size)
    if kept == 0:
        return np.zeros_like(factor)
    magnitudes = np.abs(factor)
    least = np.partition(magnitudes, factor.size - kept, axis=None)[factor.size - kept]
    return np.where(magnitudes >= least, factor, 0.0)
