"""How the factors of a new adapter start: A at random, B at zero, so that the model answers as before."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.errors import StudioError
from studio.lora.adapter import LoraFactors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import FloatArray

Start: TypeAlias = Literal["kaiming", "normal"]
"""``kaiming`` is uniform within 1 / sqrt(in), as torch.nn.Linear and PEFT start A; ``normal`` is N(0, 1)."""

HIGHEST_RANK = 256
"""The highest rank of an adapter made from nothing."""


def initial_a(shape: Sequence[int], start: Start, random: np.random.Generator) -> FloatArray:
    """Return a random A of the shape ``(..., rank, in)``, float32.

    Kaiming-uniform with a = sqrt(5): He et al. 2015, https://arxiv.org/abs/1502.01852, section 2.2.
    """
    if start == "normal":
        return random.standard_normal(shape, dtype=np.float32)
    if start != "kaiming":
        raise StudioError(f"no start is called {start!r}", remedy="Choose kaiming or normal")
    bound = 1 / math.sqrt(shape[-1])
    return random.uniform(-bound, bound, shape).astype(np.float32)


def initial_factors(
    shape: Sequence[int], rank: int, alpha: float, start: Start, random: np.random.Generator
) -> LoraFactors:
    """Return the factors of a new adapter on a weight ``(out, in)`` or ``(E, out, in)``."""
    *experts, out, inputs = shape
    a = initial_a((*experts, rank, inputs), start, random)
    return LoraFactors(a, np.zeros((*experts, out, rank), dtype=np.float32), alpha)
