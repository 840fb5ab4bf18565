"""The norm of all gradients together, and what keeps it from being too large."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from studio.contracts import FloatArray


def global_norm(gradients: Iterable[FloatArray]) -> float:
    """Return the Euclidean norm of all numbers of all gradients."""
    return math.sqrt(sum(float(np.vdot(gradient, gradient)) for gradient in gradients))


def clipping_factor(norm: float, highest: float) -> float:
    """Return what gradients are multiplied by so that their norm is at most `highest`; 0 never clips.

    Pascanu et al. 2013, https://arxiv.org/abs/1211.5063, algorithm 1.
    """
    return highest / norm if 0 < highest < norm else 1.0
