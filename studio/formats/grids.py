"""A stored tensor's own grid: its codes can move while scales and offsets of all blocks stay as they are.

Every type here stores a value as ``offset + step * code`` with the step and offset of its block. Which bits
hold the codes is told below; steps and offsets are what the dequantiser makes of the lowest and the highest.
The layouts: https://github.com/ggml-org/llama.cpp/blob/master/ggml/src/ggml-common.h and ggml-quants.c.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from studio.contracts import FloatArray
    from studio.formats.quantise import Bytes

Codes = np.ndarray[Any, Any]
"""uint8 ``[blocks, values a block]``, each from 0 to the type's highest."""


Blocks = np.ndarray[Any, Any]
"""uint8 ``[blocks, bytes a block]``, or a part of each."""


@dataclass(frozen=True)
class Layout:
    """Where a block keeps its codes.

    Attributes
    ----------
    highest
        The highest code.
    read
        Takes the codes out of blocks.
    write
        Puts codes into blocks, in place.
    """

    highest: int
    read: Callable[[Blocks], Codes]
    write: Callable[[Blocks, Codes], None]


@dataclass(frozen=True)
class Grid:
    """The grid of stored rows.

    Attributes
    ----------
    type_name
        The type they are stored in.
    offset, step
        float32 ``[rows, width]``: the value of code 0, and what one code more adds (it may be negative or 0).
    highest
        The highest code.
    """

    type_name: str
    offset: FloatArray
    step: FloatArray
    highest: int
    _stored: Bytes

    def values(self, codes: FloatArray) -> FloatArray:
        """Return what codes ``[rows, width]`` stand for."""
        values: FloatArray = self.offset + self.step * codes
        return values

    def encode(self, codes: FloatArray) -> Bytes:
        """Return the stored rows with other codes ``[rows, width]``: whole numbers from 0 to `highest`."""
        kind, layout = GGML_TYPES_BY_NAME[self.type_name], LAYOUTS[self.type_name]
        stored = self._stored.copy()
        blocks = stored.reshape(-1, kind.block_bytes)
        layout.write(blocks, codes.astype(np.uint8).reshape(-1, kind.block_size))
        return stored


def grid_of(stored: Bytes, type_name: str) -> Grid:
    """Return the grid that stored rows ``[rows, bytes a row]`` lie on; the type is one of `LAYOUTS`."""
    kind, layout = GGML_TYPES_BY_NAME[type_name], LAYOUTS[type_name]

    def values(code: int) -> FloatArray:
        changed = stored.copy()
        blocks = changed.reshape(-1, kind.block_bytes)
        layout.write(blocks, np.full((len(blocks), kind.block_size), code, np.uint8))
        return dequantise(changed, kind.number)

    offset = values(0)
    step = (values(layout.highest) - offset) / np.float32(layout.highest)
    return Grid(type_name, offset, step, layout.highest, stored)


def refined(stored: Bytes, type_name: str) -> tuple[str, Bytes] | None:
    """Move stored rows to the next finer type on a grid that has all their values; None where there is none.

    The step of every block is halved and the codes are doubled; a float16 scale can be halved without loss
    unless it is tiny.
    """
    finer = FINER.get(type_name)
    if finer is None:
        return None
    name, factor, scale, head = finer
    old, new = GGML_TYPES_BY_NAME[type_name], GGML_TYPES_BY_NAME[name]
    blocks = stored.reshape(-1, old.block_bytes)
    scales = blocks[:, scale : scale + 2].copy().view("<f2")
    smaller = scales / np.float16(factor)
    if not np.array_equal(smaller * np.float16(factor), scales):
        return None
    moved = np.zeros((len(blocks), new.block_bytes), np.uint8)
    moved[:, :head] = blocks[:, :head]
    moved[:, scale : scale + 2] = smaller.view(np.uint8)
    codes = LAYOUTS[type_name].read(blocks).astype(np.int16) * factor
    LAYOUTS[name].write(moved, codes.astype(np.uint8))
    return name, moved.reshape(len(stored), -1)


FINER: Mapping[str, tuple[str, int, int, int]] = {
    # type: the finer one, by how much, where the scale stands, how many bytes at the start are the same
    "Q4_0": ("Q5_0", 2, 0, 2),
    "Q4_1": ("Q5_1", 2, 0, 4),
    "Q4_K": ("Q5_K", 2, 0, 16),
}


def _joined(low: Codes, high: Codes, shift: int) -> Codes:
    """Put low and high bits of codes together."""
    codes: Codes = low | (high << shift)
    return codes


def _nibbles(data: Blocks) -> Codes:
    """Take the low halves of a run of bytes, then the high ones: ``[N, B] -> [N, 2 B]``."""
    return np.concatenate([data & 15, data >> 4], axis=-1)


def _to_nibbles(codes: Codes) -> Blocks:
    low, high = np.split(codes, 2, axis=-1)
    data: Blocks = (low & 15) | (high << 4)
    return data


def _read_4(start: int) -> Callable[[Blocks], Codes]:
    return lambda blocks: _nibbles(blocks[:, start : start + 16])


def _write_4(start: int) -> Callable[[Blocks, Codes], None]:
    def write(blocks: Blocks, codes: Codes) -> None:
        blocks[:, start : start + 16] = _to_nibbles(codes)

    return write


def _read_5(start: int) -> Callable[[Blocks], Codes]:
    def read(blocks: Blocks) -> Codes:
        high = np.unpackbits(blocks[:, start : start + 4], axis=1, bitorder="little")
        return _joined(_nibbles(blocks[:, start + 4 : start + 20]), high, 4)

    return read


def _write_5(start: int) -> Callable[[Blocks, Codes], None]:
    def write(blocks: Blocks, codes: Codes) -> None:
        blocks[:, start : start + 4] = np.packbits(codes >> 4, axis=1, bitorder="little")
        blocks[:, start + 4 : start + 20] = _to_nibbles(codes & 15)

    return write


def _read_8_0(blocks: Blocks) -> Codes:
    return blocks[:, 2:] ^ 128  # signed from -128, so 0 is the lowest


def _write_8_0(blocks: Blocks, codes: Codes) -> None:
    blocks[:, 2:] = codes ^ 128


def _quarters(data: Blocks) -> Codes:
    """Take two bits of each byte, the lowest of all bytes first, of 32 bytes at a time: 128 codes a run."""
    runs = data.reshape(len(data), -1, 1, 32)
    return ((runs >> np.arange(0, 8, 2, dtype=np.uint8)[:, None]) & 3).reshape(len(data), -1)


def _to_quarters(codes: Codes) -> Blocks:
    runs = codes.reshape(len(codes), -1, 4, 32)
    shifted = (runs & 3) << np.arange(0, 8, 2, dtype=np.uint8)[:, None]
    data: Blocks = np.bitwise_or.reduce(shifted, axis=2)
    return data.reshape(len(codes), -1)


def _bits_by_32(data: Blocks) -> Codes:
    """Take bit 0 of 32 bytes, then bit 1 and so on: ``[N, 32] -> [N, 256]``."""
    return ((data[:, None, :] >> np.arange(8, dtype=np.uint8)[:, None]) & 1).reshape(len(data), -1)


def _to_bits_by_32(bits: Codes) -> Blocks:
    shifted = bits.reshape(len(bits), 8, 32) << np.arange(8, dtype=np.uint8)[:, None]
    data: Blocks = np.bitwise_or.reduce(shifted, axis=1)
    return data


def _read_2_k(blocks: Blocks) -> Codes:
    return _quarters(blocks[:, 16:80])


def _write_2_k(blocks: Blocks, codes: Codes) -> None:
    blocks[:, 16:80] = _to_quarters(codes)


def _read_3_k(blocks: Blocks) -> Codes:
    return _joined(_quarters(blocks[:, 32:96]), _bits_by_32(blocks[:, :32]), 2)


def _write_3_k(blocks: Blocks, codes: Codes) -> None:
    blocks[:, :32] = _to_bits_by_32(codes >> 2)
    blocks[:, 32:96] = _to_quarters(codes & 3)


def _nibbles_by_32(data: Blocks) -> Codes:
    """Take the low halves of 32 bytes, then their high ones: ``[N, 128] -> [N, 256]``."""
    return _nibbles(data.reshape(len(data), 4, 32)).reshape(len(data), -1)


def _to_nibbles_by_32(codes: Codes) -> Blocks:
    return _to_nibbles(codes.reshape(len(codes), 4, 64)).reshape(len(codes), -1)


def _read_4_k(blocks: Blocks) -> Codes:
    return _nibbles_by_32(blocks[:, 16:])


def _write_4_k(blocks: Blocks, codes: Codes) -> None:
    blocks[:, 16:] = _to_nibbles_by_32(codes)


def _read_5_k(blocks: Blocks) -> Codes:
    return _joined(_nibbles_by_32(blocks[:, 48:]), _bits_by_32(blocks[:, 16:48]), 4)


def _write_5_k(blocks: Blocks, codes: Codes) -> None:
    blocks[:, 16:48] = _to_bits_by_32(codes >> 4)
    blocks[:, 48:] = _to_nibbles_by_32(codes & 15)


def _read_6_k(blocks: Blocks) -> Codes:
    low = _nibbles(blocks[:, :128].reshape(-1, 2, 64)).reshape(len(blocks), -1)
    return _joined(low, _quarters(blocks[:, 128:192]), 4)


def _write_6_k(blocks: Blocks, codes: Codes) -> None:
    blocks[:, :128] = _to_nibbles((codes & 15).reshape(-1, 2, 128)).reshape(len(blocks), -1)
    blocks[:, 128:192] = _to_quarters(codes >> 4)


LAYOUTS: Mapping[str, Layout] = {
    "Q4_0": Layout(15, _read_4(2), _write_4(2)),
    "Q4_1": Layout(15, _read_4(4), _write_4(4)),
    "Q5_0": Layout(31, _read_5(2), _write_5(2)),
    "Q5_1": Layout(31, _read_5(4), _write_5(4)),
    "Q8_0": Layout(255, _read_8_0, _write_8_0),
    "Q2_K": Layout(3, _read_2_k, _write_2_k),
    "Q3_K": Layout(7, _read_3_k, _write_3_k),
    "Q4_K": Layout(15, _read_4_k, _write_4_k),
    "Q5_K": Layout(31, _read_5_k, _write_5_k),
    "Q6_K": Layout(63, _read_6_k, _write_6_k),
}
"""The types whose grid is even; those that end in a table or a lattice are not."""
