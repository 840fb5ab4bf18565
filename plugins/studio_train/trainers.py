"""Trains low-rank adapters, on a base as it stands or in NF4."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.api import LoraOptions, Progress, QloraOptions, in_nf4, train_adapter, training_memory

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


class QloraTrainer:
    """Trains the same on a quantised base: of any type as it is, or of floats turned into NF4 first.

    Dettmers et al. 2023, https://arxiv.org/abs/2305.14314.
    """

    name = "QLoRA"
    Options = QloraOptions

    def memory(self, request: TrainingRequest, options: QloraOptions) -> int:
        """Estimate the bytes of a run."""
        return training_memory(request, options)

    def train(self, request: TrainingRequest, options: QloraOptions) -> Work:
        """Turn the weights into NF4 where that is wanted, and train, step by step."""
        if options.quantise == "nf4":
            yield Progress(0, 0, "Turning weights into NF4")
            request = in_nf4(request)
        return (yield from train_adapter(request, options, self.name))
