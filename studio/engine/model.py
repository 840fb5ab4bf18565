"""What a model file offers the engine, and what it is given for a forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.backend import Array, HostArray
    from studio.engine.kv_cache import CacheShape, KvCache

EMBEDDING = "token_embd.weight"
HEAD = "output.weight"

LinearGroup = tuple[str, ...]
"""Names of linear weights with the same input: their rows are fused into one product."""


class ForwardPass(Protocol):
    """What one pass over T new positions of N blends gives a model: its operators' operands, and no more."""

    @property
    def xp(self) -> Any:
        """The array module."""

    @property
    def start(self) -> int:
        """The position of the first of the T new ones."""

    @property
    def length(self) -> int:
        """T."""

    @property
    def blends(self) -> int:
        """N."""

    @property
    def horizon(self) -> int:
        """How long the sequence may become: the same in all its passes."""

    @property
    def cache(self) -> KvCache:
        """The keys and values of the positions before `start`."""

    @property
    def first_layer(self) -> int:
        """The first layer to run; those below it have run over these positions before."""

    @property
    def resumed(self) -> Array | None:
        """What enters the first layer, ``[width, N * T]``; None where it is the embedding."""

    def enter_layer(self, index: int, x: Array) -> None:
        """Announce a layer and what enters it, ``[width, N * T]``, which is not to be written to any more.

        The norm after the layers is announced as one more. Here a pass that nobody waits for is left with
        `CancelledError`.
        """

    def embed(self) -> Array:
        """Look the new tokens up in the embedding: ``[width, N * T]``."""

    def vector(self, name: str) -> Array:
        """Return a tensor that multiplies nothing by a matrix product, such as a norm's weight."""

    def project(self, names: LinearGroup, inputs: Array) -> tuple[Array, ...]:
        """Multiply the inputs ``[in, N * T]`` by each weight of a group: ``[out, N * T]`` each."""

    def project_expert(
        self, names: LinearGroup, expert: int, inputs: Array, columns: HostArray
    ) -> tuple[Array, ...]:
        """Multiply C of the N * T columns, ``[in, C]``, by one expert's part of each weight ``(E, out, in)``.

        Parameters
        ----------
        columns
            Which columns the inputs are, ``[C]``.

        Returns
        -------
        tuple
            ``[out, C]`` each.
        """

    def to_device(self, array: HostArray) -> Array:
        """Bring an array of the model's own to the device."""

    def to_host(self, array: Array) -> HostArray:
        """Bring an array that decides something to the host; waits until it is computed."""


class Model(Protocol):
    """An architecture with its hyperparameters, checked against the base's tensors. Holds no weights."""

    @property
    def context_length(self) -> int:
        """The longest sequence it takes, in tokens."""

    @property
    def vocabulary_size(self) -> int:
        """How many tokens it knows."""

    @property
    def cache_shape(self) -> CacheShape:
        """What one position takes in the cache."""

    @property
    def experts_used(self) -> int:
        """How many experts a position goes through in a layer that has some; 0 where none has."""

    @property
    def linear_groups(self) -> Sequence[LinearGroup]:
        """Every group that it projects by, the head's too."""

    @property
    def vectors(self) -> Sequence[str]:
        """Every tensor that it uses as it stands."""

    def is_long(self, horizon: int) -> bool:
        """Say whether the positions of a sequence that may become so long are turned in another way."""

    def hidden(self, run: ForwardPass) -> Array:
        """Run the layers over the new positions: ``[width, N * T]``, normalised for the head."""

    def logits(self, run: ForwardPass, hidden: Array) -> Array:
        """Turn columns of `hidden` into logits: ``[width, C] -> [V, C]``."""
