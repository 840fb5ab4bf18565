"""One pass over new positions: hands a model its weights and adds the blends' deltas, unseen by the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from studio.errors import CancelledError

if TYPE_CHECKING:
    from studio.contracts import Cancelled
    from studio.engine.adapter_bank import BoundBlends
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.kv_cache import KvCache
    from studio.engine.model import LinearGroup
    from studio.engine.weights import Weights


class BlendPass:
    """The `ForwardPass` of N blends, each over tokens of its own.

    Parameters
    ----------
    weights
        The base's.
    blends
        The deltas to add; None runs the base alone, and nothing of LoRA is computed.
    cache
        Holds the positions before; its `length` is where the new ones start.
    tokens
        The new tokens, int64 ``[N, T]``.
    horizon
        How long the sequences may become.
    first_layer, resumed
        Where to begin, if not with the embedding.
    traced
        Whether to note in `entered` what enters the layers.

    Attributes
    ----------
    entered
        What entered each layer, and last the norm after them, by index; what was resumed is not among it.
    """

    def __init__(
        self,
        backend: Backend,
        weights: Weights,
        blends: BoundBlends | None,
        cache: KvCache,
        tokens: HostArray,
        horizon: int,
        cancelled: Cancelled,
        *,
        first_layer: int = 0,
        resumed: Array | None = None,
        traced: bool = False,
    ) -> None:
        self._backend = backend
        self._weights = weights
        self._deltas = blends
        self._tokens = tokens
        self._cancelled = cancelled
        self.xp: Any = backend.xp
        self.cache = cache
        self.start = cache.length
        self.blends, self.length = tokens.shape
        self.horizon = horizon
        self.first_layer = first_layer
        self.resumed = resumed
        self.entered: dict[int, Array] = {}
        self._traced = traced

    def poll(self) -> None:
        """Leave with `CancelledError` once cancelled."""
        if self._cancelled():
            raise CancelledError

    def enter_layer(self, index: int, x: Array) -> None:
        """Note what enters a layer, where that is asked for; leave with `CancelledError` once cancelled."""
        self.poll()
        if self._traced and x is not self.resumed:
            self.entered[index] = x

    def embed(self) -> Array:
        """Look the new tokens up in the embedding: ``[width, N * T]``."""
        tokens = self._tokens.reshape(-1)  # row by row
        embedded = self.xp.ascontiguousarray(self._weights.embed(tokens, self._backend).T)
        if self._deltas is not None:
            self._deltas.add_to_embedding(self._backend.to_device(tokens), embedded)
        return embedded

    def vector(self, name: str) -> Array:
        """Return a tensor that is used as it stands."""
        return self._weights.vectors[name]

    def project(self, names: LinearGroup, inputs: Array) -> tuple[Array, ...]:
        """Multiply the inputs ``[in, N * T]`` by each weight of a group, and add the blends' deltas."""
        outputs = self._weights.linears[names].apply(inputs)
        if self._deltas is not None:
            self._deltas.add(names, inputs, outputs)
        return outputs

    def project_expert(
        self, names: LinearGroup, expert: int, inputs: Array, columns: HostArray
    ) -> tuple[Array, ...]:
        """Multiply some columns ``[in, C]`` by one expert's part of each weight; add the blends' deltas."""
        outputs = self._weights.experts[names][expert].apply(inputs)
        if self._deltas is not None:
            self._deltas.add_to_expert(names, expert, inputs, outputs, columns // self.length)
        return outputs

    def to_device(self, array: HostArray) -> Array:
        """Bring an array of the model's own to the device."""
        return self._backend.to_device(array)

    def to_host(self, array: Array) -> HostArray:
        """Bring an array to the host."""
        return self._backend.to_host(array)
