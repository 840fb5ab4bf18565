"""A weight that stays as small as in its file: dequantised panel by panel on its way into a product."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import CompactTensors, RawTensors
from studio.engine.compiled_numpy import plain_product
from studio.engine.kernels.tiles import Tiles, can_tile, tile_raw
from studio.errors import FormatError
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from studio.contracts import BaseModel, CompactTensor, FloatArray
    from studio.engine.backend import HostArray
    from studio.engine.compiled_numpy import Multiply

PANEL_VALUES = 1 << 21
"""How many weights are dense at once: 8 MB, which a cache holds."""


class StoredWeight:
    """One linear weight, as its file's bytes, in tiles, or in a storage of its base's own.

    Parameters
    ----------
    name, shape, type_name
        Its name, its ``(out, in)``, and how the file stores it.
    raw
        uint8 ``[out, bytes a row]``: its file's bytes; or what its base holds.
    path
        The file, for messages.

    Raises
    ------
    FormatError
        Where it holds a value that is not finite.
    """

    def __init__(
        self, name: str, shape: tuple[int, int], type_name: str, raw: HostArray | CompactTensor, path: Path
    ) -> None:
        self.name = name
        self.shape = shape
        self.type_name = type_name
        self._held: HostArray | CompactTensor | Tiles = raw  # exchanged at once: another thread may multiply
        self._panel: Callable[[Tiles, int, int], FloatArray] = Tiles.dense
        if not all(np.isfinite(panel).all() for _, panel in self.panels()):
            raise FormatError(
                "it holds NaN or infinite values", path=path, where=name, remedy="Get the file again"
            )

    @classmethod
    def read(cls, base: BaseModel, name: str) -> StoredWeight:
        """Read a weight ``(out, in)``, or a vector ``(in,)`` as one of a single row."""
        (weight,) = cls.read_experts(base, name)
        return weight

    @classmethod
    def read_experts(cls, base: BaseModel, name: str) -> tuple[StoredWeight, ...]:
        """Read the part of each expert of a weight ``(E, out, in)``; they share the file's bytes."""
        info = base.tensors[name]
        _, out, width = (1, 1, *info.shape)[-3:]
        compact = base.compact(name) if isinstance(base, CompactTensors) else ()
        if compact:
            return tuple(cls(name, (out, width), info.type_name, part, base.path) for part in compact)
        if isinstance(base, RawTensors):
            raw, type_name = base.raw(name), info.type_name
        else:
            raw, type_name = np.ascontiguousarray(base.dense(name)).view(np.uint8), "F32"
        parts = raw.reshape(-1, out, raw.shape[-1])
        return tuple(cls(name, (out, width), type_name, part, base.path) for part in parts)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self._held.nbytes

    @property
    def can_tile(self) -> bool:
        """Whether the kernels know its type."""
        return can_tile(self.type_name, self.shape)

    def dense(self) -> FloatArray:
        """Return the whole weight as float32 ``[out, in]``."""
        whole = np.empty(self.shape, np.float32)
        for rows, panel in self.panels():
            whole[rows] = panel
        return whole

    def rows(self, ids: HostArray) -> FloatArray:
        """Return single rows as float32 ``[ids, in]``."""
        held = self._held
        if isinstance(held, Tiles):
            return held.rows(ids)
        if isinstance(held, np.ndarray):
            return dequantise(held[ids], self._number)
        return np.concatenate([held.rows(slice(row, row + 1)) for row in ids.tolist()])

    def matmul(self, columns: HostArray, multiply: Multiply = plain_product) -> FloatArray:
        """Compute W X: ``[in, C] -> [out, C]``."""
        products = [multiply(panel, columns) for _, panel in self.panels()]
        return products[0] if len(products) == 1 else np.concatenate(products)

    def matmul_transposed(
        self, columns: HostArray, multiply: Multiply = plain_product, total: FloatArray | None = None
    ) -> FloatArray:
        """Compute W^T Y, ``[out, C] -> [in, C]``; add it to a total where one is given."""
        for rows, panel in self.panels():
            total = multiply(panel.T, columns[rows], total)
        assert total is not None, "a weight has rows"
        return total

    def panels(self) -> Iterator[tuple[slice, FloatArray]]:
        """Yield runs of rows as float32, with their place; each is good until the next is asked for."""
        out, width = self.shape
        at_once = max(16, PANEL_VALUES // width // 16 * 16)  # whole tiles
        for first in range(0, out, at_once):
            rows = slice(first, min(first + at_once, out))
            held = self._held
            if isinstance(held, Tiles):
                yield rows, self._panel(held, first // 16, -(-rows.stop // 16))
            elif isinstance(held, np.ndarray):
                yield rows, dequantise(held[rows], self._number)
            else:
                yield rows, held.rows(rows)

    def tile(self, panel: Callable[[Tiles, int, int], FloatArray]) -> Tiles:
        """Repack the weight for the kernels, which `panel` is one of; its file's bytes are let go of."""
        held = self._held
        if isinstance(held, Tiles):
            return held
        assert isinstance(held, np.ndarray), "`can_tile` says no to any other storage"
        self._panel = panel
        self._held = tiles = tile_raw(held, self.type_name, self.shape)
        return tiles

    @property
    def _number(self) -> int:
        return GGML_TYPES_BY_NAME[self.type_name].number
