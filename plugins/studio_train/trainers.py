"""Trains low-rank adapters on a base as it stands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.api import LoraOptions, train_adapter, training_memory

if TYPE_CHECKING:
    from studio.api import TrainingRequest, Work


class LoraTrainer:
    """Trains A and B of every target and nothing else: Hu et al. 2021, https://arxiv.org/abs/2106.09685."""

    name = "LoRA"
    Options = LoraOptions

    def memory(self, request: TrainingRequest, options: LoraOptions) -> int:
        """Estimate the bytes of a run."""
        return training_memory(request, options)

    def train(self, request: TrainingRequest, options: LoraOptions) -> Work:
        """Train, step by step."""
        return train_adapter(request, options, self.name)
