"""A new adapter for a base, ready to be trained: it changes nothing yet."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import StudioError
from studio.lora.adapter import Adapter
from studio.lora.choosing import chosen_modules
from studio.lora.initial import HIGHEST_RANK, Start, initial_factors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel


def create_adapter(
    base: BaseModel,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    targets: Sequence[str] = ("attn_q", "attn_v"),
    rank_stabilised: bool = False,
    start: Start = "kaiming",
    seed: int | None = None,
    name: str = "new adapter",
) -> Adapter:
    """Make an adapter for some targets of a base: A at random, B at zero.

    Parameters
    ----------
    base
        What it is for: its weights give the shapes, its architecture is remembered.
    rank
        From 1 to 256.
    alpha
        At least 0; the delta is scaled by alpha / rank.
    targets
        Such as ``attn_q``, or whatever else `chosen_modules` takes; weights of experts get a pair for each.
    rank_stabilised
        Whether the delta is scaled by alpha / sqrt(rank) instead (rsLoRA).
    start
        How A starts.
    seed
        Seed of A's random start; None draws a fresh one.
    name
        A name to show.

    Raises
    ------
    StudioError
        The rank or alpha is out of range.
    MismatchError
        The base lacks a target.
    """
    if not 1 <= rank <= HIGHEST_RANK:
        raise StudioError(f"the rank must be from 1 to {HIGHEST_RANK}, not {rank}")
    if not (math.isfinite(alpha) and alpha >= 0):
        raise StudioError(f"alpha must be a number of at least 0, not {alpha}")
    modules = chosen_modules(base, targets)
    random = np.random.default_rng(seed)
    factors = {
        module: replace(
            initial_factors(base.tensors[module].shape, rank, alpha, start, random),
            rank_stabilised=rank_stabilised,
        )
        for module in modules
    }
    return Adapter(name, factors, format="trainable", architecture=base.architecture, trainable=True)
