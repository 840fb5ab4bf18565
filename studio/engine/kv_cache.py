"""The keys and values of all positions seen so far, by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from studio.engine.backend import Array


@dataclass(frozen=True)
class CacheShape:
    """What one position of one blend takes: in each layer a key and a value of `head_size` for each group."""

    layers: int
    groups: int
    head_size: int

    @property
    def position_bytes(self) -> int:
        """Size of one position of one blend in memory."""
        return 4 * 2 * self.layers * self.groups * self.head_size


class KvCache:
    """Keys and values ``[N, groups, capacity, head_size]`` of each layer, for N blends of the same positions.

    A pass appends to every layer and then calls `advance`; one that fails before that leaves nothing behind.

    Parameters
    ----------
    xp
        The array module.
    shape
        The model's.
    blends
        N.
    capacity
        How many positions to make room for; it grows when more come.
    """

    def __init__(self, xp: Any, shape: CacheShape, blends: int, capacity: int) -> None:
        self._xp = xp
        self._shape = shape
        self.blends = blends
        self.length = 0
        self.capacity = capacity
        self._keys = [self._empty(capacity) for _ in range(shape.layers)]
        self._values = [self._empty(capacity) for _ in range(shape.layers)]

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.blends * self.capacity * self._shape.position_bytes

    def fork(self, blends: int, layers: int, positions: int, capacity: int) -> KvCache:
        """Copy the first positions in the first layers, of a cache of one blend, for several.

        The copy has the length 0: what lies beyond it waits until a pass has been over it.
        """
        copy = KvCache(self._xp, self._shape, blends, capacity)
        for layer in range(layers):
            for mine, its in zip(self.layer(layer), copy.layer(layer), strict=True):
                its[:, :, :positions] = mine[:, :, :positions]
        return copy

    def append(self, layer: int, keys: Array, values: Array) -> tuple[Array, Array]:
        """Store the keys and values ``[groups, head_size, N, T]`` of T new positions of one layer.

        Returns
        -------
        tuple
            All its keys and values so far, ``[N, groups, length + T, head_size]`` each.
        """
        end = self.length + keys.shape[-1]
        self.reserve(end)
        stored = []
        for array, new in zip(self.layer(layer), (keys, values), strict=True):
            array[:, :, self.length : end] = new.transpose(2, 0, 3, 1)
            stored.append(array[:, :, :end])
        return stored[0], stored[1]

    def layer(self, index: int) -> tuple[Array, Array]:
        """Return a layer's room for keys and for values, ``[N, groups, capacity, head_size]`` each."""
        return self._keys[index], self._values[index]

    def reserve(self, positions: int) -> None:
        """Make room for so many positions in every layer, and for more to come."""
        if positions <= self.capacity:
            return
        capacity = max(positions, 2 * self.capacity)
        for arrays in (self._keys, self._values):
            for layer, array in enumerate(arrays):
                arrays[layer] = self._empty(capacity)
                arrays[layer][:, :, : self.length] = array[:, :, : self.length]
        self.capacity = capacity

    def advance(self, count: int) -> None:
        """Count the positions that every layer has appended."""
        self.length += count

    def first_overflow(self) -> int | None:
        """Return the first layer with a key or value that is not finite, or None."""
        for layer, pair in enumerate(zip(self._keys, self._values, strict=True)):
            if not all(bool(self._xp.isfinite(array[:, :, : self.length]).all()) for array in pair):
                return layer
        return None

    def _empty(self, capacity: int) -> Array:
        shape = (self.blends, self._shape.groups, capacity, self._shape.head_size)
        return self._xp.empty(shape, dtype=self._xp.float32)
