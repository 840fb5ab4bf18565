"""The architecture `qwen3moe`: a qwen3 with experts.

Qwen Team 2025, https://arxiv.org/abs/2505.09388, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.experts import ExpertLayer, Mixture, read_experts
from studio.engine.models.normed_heads import NormedHeadsLayer
from studio.engine.models.qwen3 import Qwen3

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.models.hyperparameters import Hyperparameters


class Qwen3MoeLayer(ExpertLayer, NormedHeadsLayer):
    """The tensor names of one layer: attention of a qwen3, feed-forward of a mixture."""


class Qwen3Moe(Mixture, Qwen3):
    """A qwen3moe."""

    layers: Sequence[Qwen3MoeLayer]

    def make_layers(self, read: Hyperparameters) -> Sequence[Qwen3MoeLayer]:
        """Name the tensors of every layer."""
        experts = read_experts(read)
        return [Qwen3MoeLayer(index, experts) for index in range(read.blocks())]
