"""An open base: all that stays the same, or is only added to, until another one is opened."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.engine.kernel_decoder import KernelDecoder
from studio.engine.layer_scales import HeardAdapters
from studio.engine.memory import spare_memory
from studio.engine.models import model_for
from studio.engine.trace_store import TraceStore
from studio.engine.weights import Weights

if TYPE_CHECKING:
    from studio.contracts import BaseModel
    from studio.engine.backend import Backend
    from studio.engine.model import Model
    from studio.engine.residency import Residency


@dataclass(frozen=True)
class OpenBase:
    """A base, ready to run.

    Attributes
    ----------
    model
        Its architecture with its hyperparameters.
    weights
        On the device.
    kernels
        What decodes single tokens.
    heard
        The adapters that are attached, and where blends of them act.
    traces
        What the last evaluations left behind.
    """

    model: Model
    weights: Weights
    kernels: KernelDecoder
    heard: HeardAdapters
    traces: TraceStore

    @classmethod
    def load(cls, base: BaseModel, backend: Backend, residency: Residency, *, reuse: bool) -> OpenBase:
        """Bring a base to the device."""
        model = model_for(base)
        weights = Weights.load(base, model, backend, residency)
        shape, width = model.cache_shape, int(weights.embedding.shape[1])
        budget = spare_memory(backend) if reuse else 0
        return cls(
            model,
            weights,
            KernelDecoder(base, model, weights, backend),
            HeardAdapters(shape.layers),
            TraceStore(backend.xp, shape, width, budget),
        )
