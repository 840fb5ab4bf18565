"""The architecture `qwen3`: a qwen2 without biases, whose queries and keys are normalised head by head.

Qwen Team 2025, https://arxiv.org/abs/2505.09388, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.normed_heads import NormedHeads, NormedHeadsLayer
from studio.engine.models.qwen2 import Qwen2

if TYPE_CHECKING:
    from collections.abc import Sequence


class Qwen3(NormedHeads, Qwen2):
    """A qwen3."""

    layer_type = NormedHeadsLayer
    layers: Sequence[NormedHeadsLayer]
