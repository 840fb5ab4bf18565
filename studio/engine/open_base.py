"""An open base: all that stays the same, or is only added to, until another one is opened."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from studio.engine.kernel_decoder import KernelDecoder
from studio.engine.kernel_loader import KernelLoader
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
    closed
        Set once the weights are to go; those who share them end what they do then.
    is_shared
        Whether another one decides when that is.
    """

    model: Model
    weights: Weights
    kernels: KernelDecoder
    heard: HeardAdapters
    traces: TraceStore
    closed: threading.Event = field(default_factory=threading.Event)
    is_shared: bool = False

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
            KernelDecoder(model, KernelLoader(base, model, weights, backend)),
            HeardAdapters(shape.layers),
            TraceStore(backend.xp, shape, width, budget),
        )

    def shared(self, backend: Backend) -> OpenBase:
        """Return the same base for another thread: weights and loaded kernels are there once."""
        shape, width = self.model.cache_shape, int(self.weights.embedding.shape[1])
        return replace(
            self,
            kernels=KernelDecoder(self.model, self.kernels.loader),
            heard=HeardAdapters(shape.layers),
            traces=TraceStore(backend.xp, shape, width, 0),
            is_shared=True,
        )

    def close(self) -> None:
        """Let go of what is not shared, and let those who share the weights know."""
        self.kernels.close()
        if not self.is_shared:
            self.closed.set()
            self.kernels.loader.close()
