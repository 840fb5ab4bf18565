"""Weights as kernels read them: 16 rows interleaved to a tile, one record of memory after the other."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np

from studio.engine.kernels.codes import LAYOUTS, unpack
from studio.engine.kernels.memory import aligned

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import FloatArray

ROWS = 16
"""How many rows make a tile: one lane each."""

BLOCK = 32
"""How many codes of each row make a record."""

CHUNK_VALUES = 1 << 22
"""How many values are repacked at once, so that the copies in between stay small."""


class Kind(IntEnum):
    """How a tile's records look; the kernels branch on it once a tile."""

    NIBBLES_HALF = 0
    NIBBLES_FLOAT = 1
    BYTES_HALF = 2
    BYTES_FLOAT = 3
    BYTES_RUNS = 4
    HALVES = 5
    BFLOATS = 6
    FLOATS = 7

    @property
    def coded(self) -> bool:
        """Whether the values are codes with scales, multiplied with fixed-point activations."""
        return self < Kind.HALVES


def _record(words: int, dtype: str, runs: int = 1) -> np.dtype[Any]:
    """Describe the record of one block: codes of each row four to a word, then scales, then minima."""
    return np.dtype(
        [("codes", "<u4", (words, ROWS)), ("scale", dtype, (runs, ROWS)), ("minimum", dtype, (runs, ROWS))]
    )


RECORDS: dict[Kind, np.dtype[Any]] = {
    Kind.NIBBLES_HALF: _record(4, "<f2"),
    Kind.NIBBLES_FLOAT: _record(4, "<f4"),
    Kind.BYTES_HALF: _record(8, "<f2"),
    Kind.BYTES_FLOAT: _record(8, "<f4"),
    Kind.BYTES_RUNS: _record(8, "<f4", 2),
    Kind.HALVES: np.dtype("<f2"),
    Kind.BFLOATS: np.dtype("<u2"),
    Kind.FLOATS: np.dtype("<f4"),
}
"""One record of each kind: a block of codes, or one plain value."""

PLAIN = {"F16": Kind.HALVES, "BF16": Kind.BFLOATS, "F32": Kind.FLOATS}


@dataclass(frozen=True)
class Tiles:
    """A weight in tiles.

    Attributes
    ----------
    kind
        What the records hold.
    records
        ``[tiles, in / 32]`` of a record with codes, or plain values ``[tiles, in, 16]``; the last tile is
        filled up with zeros.
    shape
        The weight's ``(out, in)``.
    """

    kind: Kind
    records: np.ndarray[Any, Any]
    shape: tuple[int, int]

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.records.nbytes

    def dense(self, first: int = 0, last: int | None = None) -> FloatArray:
        """Return the rows of some tiles as float32 ``[rows, in]``: what the kernels multiply by."""
        rows = self._values(self.records[first:last])
        return rows[: self.shape[0] - first * ROWS]

    def rows(self, ids: Sequence[int] | np.ndarray[Any, Any]) -> FloatArray:
        """Return single rows as float32 ``[ids, in]``."""
        wanted = np.asarray(ids)
        tiles, lanes = np.divmod(wanted, ROWS)
        found = self._values(self.records[tiles]).reshape(len(wanted), ROWS, self.shape[1])
        return np.ascontiguousarray(found[np.arange(len(wanted)), lanes])

    def multiply(self, x: FloatArray) -> FloatArray:
        """Compute W x for x = ``[in]``: the twin of the kernels' product."""
        return self.dense() @ x

    def _values(self, records: np.ndarray[Any, Any]) -> FloatArray:
        """Return tiles of records as float32 ``[tiles * 16, in]``."""
        width = self.shape[1]
        if not self.kind.coded:
            plain = records.view(ml_dtypes.bfloat16) if self.kind == Kind.BFLOATS else records
            columns = plain.astype(np.float32)  # [tiles, in, 16]
            return np.ascontiguousarray(columns.swapaxes(1, 2)).reshape(-1, width)
        words = records["codes"].transpose(0, 3, 1, 2)  # [tiles, 16, blocks, words]
        codes = np.ascontiguousarray(words).view(np.uint8)
        if codes.shape[-1] == BLOCK // 2:
            codes = np.concatenate([codes & 15, codes >> 4], axis=-1)
        scale, minimum = (
            records[part].astype(np.float32).transpose(0, 3, 1, 2)[..., None]  # [tiles, 16, blocks, runs, 1]
            for part in ("scale", "minimum")
        )
        runs = codes.reshape(*scale.shape[:-1], -1)
        values: FloatArray = runs * scale + minimum
        return values.reshape(-1, width)


def can_tile(type_name: str, shape: tuple[int, ...]) -> bool:
    """Say whether the kernels know how to multiply by a weight of this type and shape."""
    return len(shape) == 2 and (type_name in PLAIN or (type_name in LAYOUTS and shape[1] % BLOCK == 0))


def tiled_bytes(type_name: str, shape: tuple[int, ...]) -> int:
    """Return what a weight takes in tiles: as it is stored, or as float32 where `can_tile` says no."""
    *outer, width = shape
    out = math.prod(outer)
    kind = _kind(type_name) if can_tile(type_name, shape) else Kind.FLOATS
    records = width // BLOCK if kind.coded else width * ROWS
    return _tiles(out) * records * RECORDS[kind].itemsize


def tile_raw(raw: np.ndarray[Any, Any], type_name: str, shape: tuple[int, int]) -> Tiles:
    """Repack stored rows, uint8 ``[out, bytes a row]``, of a type that `can_tile` names."""
    kind = _kind(type_name)
    if not kind.coded:
        return _tile_plain(raw.view(RECORDS[kind]), kind, shape)
    with np.errstate(over="ignore"):  # a minimum of -128 * scale may pass float16: then it is kept wider
        tiles = _tile_codes(raw, type_name, kind, shape)
    if kind == Kind.BYTES_HALF and not np.isfinite(tiles.records["minimum"]).all():
        return _tile_codes(raw, type_name, Kind.BYTES_FLOAT, shape)
    return tiles


def _kind(type_name: str) -> Kind:
    """Return how the tiles of a type look."""
    if type_name in PLAIN:
        return PLAIN[type_name]
    layout = LAYOUTS[type_name]
    if layout.run != BLOCK:
        return Kind.BYTES_RUNS
    if layout.bits == 4:
        return Kind.NIBBLES_HALF if layout.halves else Kind.NIBBLES_FLOAT
    return Kind.BYTES_HALF if layout.halves else Kind.BYTES_FLOAT


def tile_dense(values: FloatArray, *, smallest: bool = False) -> Tiles:
    """Interleave float32 ``[out, in]``; with `smallest`, as float16 where that loses nothing."""
    kind = Kind.FLOATS
    if smallest:
        with np.errstate(over="ignore"):
            halves = values.astype(np.float16)
        if np.array_equal(halves.astype(np.float32), values):
            return _tile_plain(halves, Kind.HALVES, (values.shape[0], values.shape[1]))
    return _tile_plain(values, kind, (values.shape[0], values.shape[1]))


def _tile_plain(values: np.ndarray[Any, Any], kind: Kind, shape: tuple[int, int]) -> Tiles:
    out, width = shape
    records = aligned((_tiles(out), width, ROWS), RECORDS[kind])
    for tiles, rows in _chunks(out, width):
        part = _filled(values[rows], ROWS)
        records[tiles] = part.reshape(-1, ROWS, width).swapaxes(1, 2)
    return Tiles(kind, records, shape)


def _tile_codes(raw: np.ndarray[Any, Any], type_name: str, kind: Kind, shape: tuple[int, int]) -> Tiles:
    out, width = shape
    blocks = width // BLOCK
    records = aligned((_tiles(out), blocks), RECORDS[kind])
    for tiles, rows in _chunks(out, width):
        codes, scale, minimum = (_filled(part, ROWS) for part in unpack(raw[rows], type_name))
        codes = codes.reshape(-1, ROWS, blocks, BLOCK)
        if kind in (Kind.NIBBLES_HALF, Kind.NIBBLES_FLOAT):
            codes = codes[..., : BLOCK // 2] | (codes[..., BLOCK // 2 :] << 4)
        words = np.ascontiguousarray(codes).view("<u4")  # [tiles, 16, blocks, words]
        records["codes"][tiles] = words.transpose(0, 2, 3, 1)
        for name, values in (("scale", scale), ("minimum", minimum)):
            records[name][tiles] = values.reshape(-1, ROWS, blocks, scale.shape[1] // blocks).transpose(
                0, 2, 3, 1
            )
    return Tiles(kind, records, shape)


def _tiles(out: int) -> int:
    return -(-out // ROWS)


def _chunks(out: int, width: int) -> Iterator[tuple[slice, slice]]:
    """Cut a weight into runs of whole tiles: which tiles, and which rows."""
    at_once = max(1, CHUNK_VALUES // (ROWS * width))
    for first in range(0, _tiles(out), at_once):
        last = min(first + at_once, _tiles(out))
        yield slice(first, last), slice(first * ROWS, min(last * ROWS, out))


def _filled(rows: np.ndarray[Any, Any], multiple: int) -> np.ndarray[Any, Any]:
    """Add rows of zeros up to a multiple."""
    missing = -len(rows) % multiple
    return np.pad(rows, ((0, missing), (0, 0))) if missing else rows
