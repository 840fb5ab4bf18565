"""A new adapter for a base, ready to be trained: it changes nothing yet."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import MismatchError, StudioError
from studio.lora.adapter import Adapter
from studio.lora.initial import HIGHEST_RANK, Start, initial_factors
from studio.lora.report import adaptable_modules
from studio.lora.targets import target_of, targets_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel


def create_adapter(
    base: BaseModel,
    *,
    rank: int = 16,
    alpha: float = 32.0,
    targets: Sequence[str] = ("attn_q", "attn_v"),
    start: Start = "kaiming",
    seed: int | None = None,
    name: str = "new adapter",
) -> Adapter:
    """Make an adapter for some targets in every layer of a base: A at random, B at zero.

    Parameters
    ----------
    base
        What it is for: its weights give the shapes, its architecture is remembered.
    rank
        From 1 to 256.
    alpha
        At least 0; the delta is scaled by alpha / rank.
    targets
        Such as ``attn_q``; those of experts get a pair for each expert.
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
    modules = adaptable_modules(base)
    missing = [target for target in targets if target not in targets_of(modules)]
    if missing or not targets:
        raise MismatchError(
            f"{base.name} has no {', '.join(missing)}" if missing else "no targets are named",
            remedy=f"Choose among {', '.join(targets_of(modules))}",
        )
    random = np.random.default_rng(seed)
    factors = {
        module: initial_factors(base.tensors[module].shape, rank, alpha, start, random)
        for module in modules
        if target_of(module) in targets
    }
    return Adapter(name, factors, format="trainable", architecture=base.architecture, trainable=True)
