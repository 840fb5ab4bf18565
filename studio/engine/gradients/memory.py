"""How much memory gradients take: counted from the sizes of the model's weights, before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.contracts import GradientMemory
from studio.engine.model import HEAD
from studio.engine.packed_weight import PANEL_VALUES as PACKED_VALUES
from studio.engine.stored import PANEL_VALUES as STORED_VALUES
from studio.errors import EngineError

if TYPE_CHECKING:
    from studio.engine.backend import Backend
    from studio.engine.model import LinearGroup, Model
    from studio.engine.weights import Weights

MEMORY_SHARE = 0.4
"""Which part of the free memory gradients may take before layers run a second time."""

VALUE = 4
"""Bytes of a float32."""


def pass_memory(
    backend: Backend, model: Model, weights: Weights, columns: int, head_columns: int
) -> GradientMemory:
    """Estimate what the gradients of a pass take.

    What is remembered of a layer is what its products put out, what enters it, and what attention gives.

    Parameters
    ----------
    columns
        Sequences times positions that run side by side.
    head_columns
        How many of them go through the head at once.
    """
    width, vocabulary = (int(size) for size in reversed(weights.embedding.shape))
    layers = model.cache_shape.layers
    outputs = sum(_outputs(weights, group) * _uses(model, weights, group) for group in _groups(model))
    remembered = VALUE * columns * (outputs + 2 * layers * width)
    entered = VALUE * columns * (layers + 3) * width
    # On the way back a layer has as much again for what is computed anew, and twice as much for gradients.
    at_work = 3 * (remembered // layers)
    head = 3 * VALUE * head_columns * vocabulary + _panels(weights, backend)
    usual, least = (kept + at_work + head for kept in (remembered, entered + remembered // layers))
    available = backend.available_memory()
    is_short = available is not None and usual > MEMORY_SHARE * available
    return GradientMemory(least if is_short else usual, available, is_short)


def check_memory(memory: GradientMemory) -> None:
    """Raise `EngineError` for gradients that cannot fit."""
    if memory.available is not None and not memory.fits:
        raise EngineError(
            f"gradients of such sequences take {memory.needed / 1e9:.2f} GB of memory, "
            f"and {memory.available / 1e9:.2f} GB are free",
            remedy="Shorten the sequences, or keep the weights quantised",
        )


def _groups(model: Model) -> list[LinearGroup]:
    return [group for group in model.linear_groups if group != (HEAD,)]


def _outputs(weights: Weights, group: LinearGroup) -> int:
    """Return how many rows the products of a group have, of one expert where there are several."""
    linear = weights.experts[group][0] if group in weights.experts else weights.linears[group]
    return sum(linear.outputs)


def _uses(model: Model, weights: Weights, group: LinearGroup) -> int:
    """Return how often a column goes through a group."""
    return model.experts_used if group in weights.experts else 1


def _panels(weights: Weights, backend: Backend) -> int:
    """Return what parts of weights take that are dense for a while."""
    if weights.kind == "dense":
        return 0
    return 2 * VALUE * (STORED_VALUES if backend.name == "NumPy" else PACKED_VALUES)
