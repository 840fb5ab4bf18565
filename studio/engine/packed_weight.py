"""A weight that lies on a device in fewer bits than float32, and is turned into it on its way into a product.

Products are of float32 alone: panels of rows are dequantised, or widened from float16, and multiplied. So
rounding the weights is the whole error.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import RawTensors
from studio.engine.kernels.codes import LAYOUTS, unpack

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array, Backend, HostArray

PANEL_VALUES = 1 << 24
"""How many values of a weight are float32 at once: 64 MB, and about twice that while they are made."""

PLAIN_TYPES = ("F32", "F16", "BF16")


@dataclass(frozen=True)
class Part:
    """Rows of one storage type: uint8 ``[rows, bytes a row]``."""

    type_name: str
    data: Array


@dataclass(frozen=True)
class PackedWeight:
    """The weights of a group, their rows one after the other: stands where a float32 array would.

    Attributes
    ----------
    xp
        The array module of the parts.
    parts
        Neighbours of the same type are one.
    shape
        ``(out, in)``.
    """

    xp: Any
    parts: tuple[Part, ...]
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return sum(int(part.data.nbytes) for part in self.parts)

    def on(self, backend: Backend) -> PackedWeight:
        """Bring host arrays to the device."""
        parts = tuple(Part(part.type_name, backend.to_device(part.data)) for part in self.parts)
        return PackedWeight(backend.xp, parts, self.shape)

    def __matmul__(self, columns: Array) -> Array:
        """Compute W X: ``[in, C] -> [out, C]``."""
        product = self.xp.empty((self.shape[0], columns.shape[1]), dtype=self.xp.float32)
        for rows, panel in self.panels():
            product[rows] = panel @ columns
        return product

    def matmul_transposed(self, parts: Sequence[Array]) -> Array:
        """Compute W^T Y for Y ``[out, C]`` in parts, one after the other: ``[in, C]``."""
        columns = parts[0] if len(parts) == 1 else self.xp.concatenate(parts)
        product = self.xp.zeros((self.shape[1], columns.shape[1]), dtype=self.xp.float32)
        for rows, panel in self.panels():
            product += panel.T @ columns[rows]
        return product

    def rows(self, ids: Array) -> Array:
        """Return single rows of a weight of one part as float32 ``[ids, in]``."""
        (part,) = self.parts
        return as_float32(self.xp, part.data[ids], part.type_name)

    def is_finite(self) -> bool:
        """Say whether every value is; waits for the device."""
        return all(bool(self.xp.isfinite(panel).all()) for _, panel in self.panels())

    def panels(self) -> Iterator[tuple[slice, Array]]:
        """Yield runs of rows as float32, with their place."""
        at_once = max(1, PANEL_VALUES // self.shape[1])
        start = 0
        for part in self.parts:
            count = int(part.data.shape[0])
            for first in range(0, count, at_once):
                rows = part.data[first : min(first + at_once, count)]
                place = slice(start + first, start + first + int(rows.shape[0]))
                yield place, as_float32(self.xp, rows, part.type_name)
            start += count


def pack(weights: Sequence[tuple[str, HostArray]], width: int) -> PackedWeight:
    """Put weights, each its type and its bytes ``[out, bytes a row]``, together on the host."""
    runs: list[tuple[str, list[HostArray]]] = []
    for type_name, data in weights:
        if not runs or runs[-1][0] != type_name:
            runs.append((type_name, []))
        runs[-1][1].append(data)
    parts = tuple(
        Part(name, arrays[0] if len(arrays) == 1 else np.concatenate(arrays)) for name, arrays in runs
    )
    return PackedWeight(np, parts, (sum(len(part.data) for part in parts), width))


def stored_bytes(base: BaseModel, name: str) -> tuple[str, HostArray]:
    """Return a tensor's type and bytes for a device: as in the file where the device knows the type."""
    info = base.tensors[name]
    if isinstance(base, RawTensors) and info.type_name in (*LAYOUTS, *PLAIN_TYPES):
        return info.type_name, base.raw(name)
    return half_bytes(base.dense(name))


def half_bytes(values: HostArray) -> tuple[str, HostArray]:
    """Round float32 values to float16; where one is beyond its range, all stay what they are."""
    with np.errstate(over="ignore"):
        halves = values.astype(np.float16)
    if not np.isfinite(halves).all():
        return "F32", np.ascontiguousarray(values).view(np.uint8)
    return "F16", halves.view(np.uint8)


def as_float32(xp: Any, rows: Array, type_name: str) -> Array:
    """Turn stored rows ``[rows, bytes a row]`` into float32 ``[rows, in]``, on the device they are on."""
    if type_name == "F32":
        return rows.view(xp.float32)
    if type_name == "F16":
        return rows.view(xp.float16).astype(xp.float32)
    if type_name == "BF16":  # the upper half of a float32
        return (rows.view(xp.uint16).astype(xp.uint32) << 16).view(xp.float32)
    codes, scale, minimum = unpack(rows, type_name, xp)
    count, width = codes.shape
    values = codes.reshape(count, scale.shape[1], -1).astype(xp.float32)  # [rows, runs, values a run]
    values *= scale[:, :, None]
    values += minimum[:, :, None]
    return values.reshape(count, width)
