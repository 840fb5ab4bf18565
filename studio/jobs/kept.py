"""How much of the wanted delta is left in each module of a merged model."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import Progress
from studio.engine.model import EMBEDDING
from studio.lora.combining import combined_delta, dense_delta
from studio.lora.exported import exported_modules

if TYPE_CHECKING:
    from studio.contracts import BaseModel, ExportRequest, FloatArray, Work

CHUNK = 1 << 20
"""How many weights are compared at once, in elements: keeps the float64 copies small."""


@dataclass(frozen=True)
class ModuleDelta:
    """What became of the delta of one module, with d the delta in the file and d* the wanted one.

    Attributes
    ----------
    module
        The GGUF weight name.
    kept
        <d, d*> / ||d*||^2: 1 where all of it is there, 0 where nothing is. Rounding that is right on average
        leaves it near 1.
    error
        ||d - d*|| / ||d*||: what rounding added, too.
    """

    module: str
    kept: float
    error: float


def delta_kept(request: ExportRequest, merged: BaseModel) -> Work:
    """Compare the weights of a merged model with its base and return a `ModuleDelta` a module.

    One weight is in memory at a time, with its base and its delta.
    """
    found = []
    modules = [
        name for name in exported_modules(request, tied_output=True, full_rank=True) if name in merged.tensors
    ]
    for done, module in enumerate(modules):
        yield Progress(done, len(modules), f"Comparing {module}")
        delta = combined_delta(request, module)
        if delta is None:
            continue
        # an output that the base ties to its embedding
        base_name = module if module in request.base.tensors else EMBEDDING
        found.append(
            _compare(module, dense_delta(delta), merged.dense(module), request.base.dense(base_name))
        )
    return tuple(found)


def _compare(module: str, wanted: FloatArray, merged: FloatArray, base: FloatArray) -> ModuleDelta:
    product = squares = errors = 0.0
    flat = [array.reshape(-1) for array in (wanted, merged, base)]
    for start in range(0, wanted.size, CHUNK):
        goal, new, old = (array[start : start + CHUNK].astype(np.float64) for array in flat)
        delta = new - old
        product += float(delta @ goal)
        squares += float(goal @ goal)
        errors += float((delta - goal) @ (delta - goal))
    if squares == 0:
        return ModuleDelta(module, 1.0, 0.0)
    return ModuleDelta(module, product / squares, math.sqrt(errors / squares))
