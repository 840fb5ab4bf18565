"""The studio's own trainers, LoRA and QLoRA, and its optimisers."""

from __future__ import annotations

from studio.api import AdamW, Momentum, Optimiser, Trainer, hookimpl
from studio_train.trainers import LoraTrainer, QloraTrainer


@hookimpl
def register_trainers() -> list[Trainer]:
    """Offer the trainers."""
    return [LoraTrainer(), QloraTrainer()]


@hookimpl
def register_optimisers() -> list[Optimiser]:
    """Offer the optimisers."""
    return [AdamW(), Momentum()]
