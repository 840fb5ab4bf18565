"""How the weights of a base may lie in memory, how much each way takes, and which of them fit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.contracts import CompactTensors
from studio.engine.kernels.tiles import tiled_bytes
from studio.engine.model import EMBEDDING
from studio.engine.token_plan import PlannedModel
from studio.errors import EngineError

if TYPE_CHECKING:
    from studio.contracts import BaseModel
    from studio.engine.backend import Backend
    from studio.engine.model import Model

Kind: TypeAlias = Literal["dense", "float16", "quantised"]
"""float32; float16, which devices alone take; as small as in the file."""

Residency: TypeAlias = Literal["auto", "dense", "float16", "quantised"]
"""A kind that was asked for, or whichever fits."""

DENSE_SHARE = 0.5
"""How much of the free memory dense weights, with the kernels' copy, may take under `auto`."""

DEVICE_SHARE = 0.7
"""The same of a device's free memory, which few others want; the rest is for activations and adapters."""

KINDS: tuple[Kind, ...] = ("dense", "float16", "quantised")
"""From the most exact to the smallest, with what each is called."""

NAMES: dict[Kind, str] = {"dense": "float32", "float16": "float16", "quantised": "quantised"}


def kinds_to_try(base: BaseModel, model: Model, backend: Backend, wanted: Residency) -> tuple[Kind, ...]:
    """Turn what was asked for into kinds, the first that should fit and then those that are smaller.

    Raises
    ------
    EngineError
        Where the backend cannot have the weights so.
    """
    on_host = backend.name == "NumPy"
    if on_host and wanted == "float16":
        raise EngineError(
            "NumPy takes no float16 weights", remedy="Choose dense or quantised weights, or a GPU"
        )
    if wanted != "auto":
        return (wanted,)
    free = backend.available_memory()
    if on_host and isinstance(base, CompactTensors):
        return ("quantised",)  # it was made small to stay so
    if on_host:
        needed = size_of(base, "dense") + repacked_size(base, model)
        fits = free is None or needed <= DENSE_SHARE * free
        return ("dense",) if fits else ("quantised",)
    fitting = [kind for kind in KINDS if free is None or size_of(base, kind) <= DEVICE_SHARE * free]
    first = fitting[0] if fitting else "quantised"
    return KINDS[KINDS.index(first) :]


def size_of(base: BaseModel, kind: Kind) -> int:
    """Return how many bytes the weights take."""
    infos = base.tensors.values()
    if kind == "quantised":
        return sum(info.nbytes for info in infos)
    value = 4 if kind == "dense" else 2
    return value * sum(int(np.prod(info.shape, dtype=object)) for info in infos)


def repacked_size(base: BaseModel, model: Model) -> int:
    """Return what the kernels' own copy of dense weights takes, of a model that they can decode."""
    if not isinstance(model, PlannedModel) or model.token_plan is None:
        return 0
    names = {name if name in base.tensors else EMBEDDING for group in model.linear_groups for name in group}
    infos = (base.tensors[name] for name in names)
    return sum(tiled_bytes(info.type_name, info.shape) for info in infos)


def check_memory(base: BaseModel, backend: Backend, kind: Kind) -> None:
    """Refuse a base whose weights cannot fit, before the system ends the program for it."""
    limit, needed = backend.memory_limit(), size_of(base, kind)
    if limit is not None and needed > limit:
        how = "as stored" if kind == "quantised" else f"in {NAMES[kind]}"
        raise EngineError(
            f"its weights take {needed / 1e9:.1f} GB {how}, and {backend.name} has {limit / 1e9:.1f} GB",
            path=base.path,
            remedy="Open a smaller base",
        )
