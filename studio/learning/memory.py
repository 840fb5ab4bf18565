"""How much memory a run takes, told before it starts."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from studio.errors import EngineError
from studio.learning.options import split_targets
from studio.lora.choosing import chosen_modules

if TYPE_CHECKING:
    from studio.contracts import BaseModel, GradientMemory, LowRankAdapter, TrainingRequest
    from studio.learning.options import LoraOptions

COPIES = 9
"""How often the factors are there: as they are and as they are next, packed for the engine and on their way
there, their gradients and those of the batches before, the best, and two means of the optimiser."""

NUMBER = 4
"""Bytes of a float32."""


def factor_bytes(base: BaseModel, start: LowRankAdapter | None, options: LoraOptions) -> int:
    """Return what the factors of the adapter take once."""
    if start is not None:
        return sum(pair.a.nbytes + pair.b.nbytes for pair in start.factors.values())
    count = 0
    for module in chosen_modules(base, split_targets(options)):
        *experts, out, inputs = base.tensors[module].shape
        count += math.prod(experts) * options.rank * (out + inputs)
    return NUMBER * count


def training_memory(request: TrainingRequest, options: LoraOptions) -> int:
    """Estimate how many bytes a run takes beside the engine's weights."""
    return COPIES * factor_bytes(request.base, request.start, options) + _pass_memory(request, options).needed


def check_memory(request: TrainingRequest, options: LoraOptions) -> None:
    """Refuse a run that cannot fit. Raises `EngineError`; where nobody tells what is free it may start."""
    needed, free = training_memory(request, options), _pass_memory(request, options).available
    if free is not None and needed > free:
        raise EngineError(
            f"the run takes about {needed / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free",
            remedy="Take shorter examples, smaller batches, a lower rank or fewer targets",
        )


def _pass_memory(request: TrainingRequest, options: LoraOptions) -> GradientMemory:
    """Return what the gradients of the longest batch there may be take."""
    longest = sorted(request.examples, key=lambda example: len(example.tokens))[-options.batch :]
    return request.engine.gradient_memory(longest)
