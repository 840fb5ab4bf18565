"""Takes the stored blocks of a quantised type apart: codes from 0 on, and a scale and a minimum for each run.

`xp` is the array module that the blocks are of, NumPy or CuPy. A value is scale * code + minimum in every
type: where ggml subtracts a fixed zero point, the minimum is -zero * scale.
https://github.com/ggml-org/ggml/blob/master/src/ggml-common.h describes the blocks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.engine.backend import Array


class Codes(NamedTuple):
    """The values of some rows.

    Attributes
    ----------
    codes
        uint8 ``[rows, in]``.
    scale, minimum
        float32 ``[rows, in / run]``.
    """

    codes: Array
    scale: Array
    minimum: Array


def _half(xp: Any, blocks: Array, start: int) -> Array:
    return xp.ascontiguousarray(blocks[..., start : start + 2]).view(xp.float16)[..., 0].astype(xp.float32)


def _nibbles(xp: Any, quads: Array) -> Array:
    """Split bytes ``[..., B, n]`` into low nibbles, then high ones: ``[..., B, 2 * n]``."""
    return xp.concatenate([quads & 15, quads >> 4], axis=-1)


def _fifth_bits(xp: Any, blocks: Array, start: int) -> Array:
    """Return bit 4 of 32 codes, in its place, from the four bytes that hold one bit each."""
    bytes_ = xp.ascontiguousarray(blocks[..., start : start + 4])
    bits = xp.unpackbits(bytes_.reshape(-1), bitorder="little")  # CuPy's knows no axis
    return bits.reshape(*bytes_.shape[:-1], 32) << 4


def _q4_0(xp: Any, blocks: Array) -> Codes:
    scale = _half(xp, blocks, 0)
    return Codes(_nibbles(xp, blocks[..., 2:]), scale, -8 * scale)


def _q4_1(xp: Any, blocks: Array) -> Codes:
    return Codes(_nibbles(xp, blocks[..., 4:]), _half(xp, blocks, 0), _half(xp, blocks, 2))


def _q5_0(xp: Any, blocks: Array) -> Codes:
    scale = _half(xp, blocks, 0)
    return Codes(_nibbles(xp, blocks[..., 6:]) | _fifth_bits(xp, blocks, 2), scale, -16 * scale)


def _q5_1(xp: Any, blocks: Array) -> Codes:
    return Codes(
        _nibbles(xp, blocks[..., 8:]) | _fifth_bits(xp, blocks, 4), _half(xp, blocks, 0), _half(xp, blocks, 2)
    )


def _q8_0(xp: Any, blocks: Array) -> Codes:
    scale = _half(xp, blocks, 0)
    return Codes(blocks[..., 2:] ^ 0x80, scale, -128 * scale)


def _k_scales(xp: Any, blocks: Array) -> tuple[Array, Array]:
    """Return the scales and minima ``[..., 8]`` that Q4_K and Q5_K pack as 6 bits each."""
    packed = blocks[..., 4:16]
    first, second, third = packed[..., 0:4], packed[..., 4:8], packed[..., 8:12]
    scales = xp.concatenate([first & 63, (third & 15) | ((first >> 6) << 4)], axis=-1)
    minima = xp.concatenate([second & 63, (third >> 4) | ((second >> 6) << 4)], axis=-1)
    return _half(xp, blocks, 0)[..., None] * scales, -(_half(xp, blocks, 2)[..., None] * minima)


def _k_nibbles(xp: Any, quads: Array) -> Array:
    """Split 128 bytes into the 256 nibbles of a super-block: 32 low ones, then their 32 high ones, and on."""
    return _nibbles(xp, quads.reshape(*quads.shape[:-1], 4, 32)).reshape(*quads.shape[:-1], 256)


def _q4_k(xp: Any, blocks: Array) -> Codes:
    return Codes(_k_nibbles(xp, blocks[..., 16:]), *_k_scales(xp, blocks))


def _q5_k(xp: Any, blocks: Array) -> Codes:
    high = blocks[..., 16:48]
    fifths = xp.concatenate([((high >> bit) & 1) << 4 for bit in range(8)], axis=-1)  # 32 of each bit
    return Codes(_k_nibbles(xp, blocks[..., 48:]) | fifths, *_k_scales(xp, blocks))


def _q6_k(xp: Any, blocks: Array) -> Codes:
    low = blocks[..., :128].reshape(*blocks.shape[:-1], 2, 64)
    high = blocks[..., 128:192].reshape(*blocks.shape[:-1], 2, 32)
    lows = xp.concatenate([low & 15, low >> 4], axis=-1)  # [..., 2, 128]
    highs = xp.concatenate([((high >> shift) & 3) << 4 for shift in (0, 2, 4, 6)], axis=-1)
    small = xp.ascontiguousarray(blocks[..., 192:208]).view(xp.int8).astype(xp.float32)
    scale = _half(xp, blocks, 208)[..., None] * small
    return Codes((lows | highs).reshape(*blocks.shape[:-1], 256), scale, -32 * scale)


class Layout(NamedTuple):
    """How a type is stored: bytes a block, values a block, values that share a scale, bits a code."""

    block_bytes: int
    block: int
    run: int
    bits: int
    halves: bool
    unpack: Callable[[Any, Array], Codes]


LAYOUTS: dict[str, Layout] = {
    "Q4_0": Layout(18, 32, 32, 4, True, _q4_0),
    "Q4_1": Layout(20, 32, 32, 4, True, _q4_1),
    "Q5_0": Layout(22, 32, 32, 8, True, _q5_0),
    "Q5_1": Layout(24, 32, 32, 8, True, _q5_1),
    "Q8_0": Layout(34, 32, 32, 8, True, _q8_0),
    "Q4_K": Layout(144, 256, 32, 4, False, _q4_k),
    "Q5_K": Layout(176, 256, 32, 8, False, _q5_k),
    "Q6_K": Layout(210, 256, 16, 8, False, _q6_k),
}
"""By type name; `halves` says that scale and minimum are float16 in the file, and so without loss here."""


def unpack(raw: Array, type_name: str, xp: Any = np) -> Codes:
    """Take rows ``[rows, bytes a row]`` of a type in `LAYOUTS` apart."""
    layout = LAYOUTS[type_name]
    rows = raw.shape[0]
    codes, scale, minimum = layout.unpack(xp, raw.reshape(rows, -1, layout.block_bytes))
    return Codes(codes.reshape(rows, -1), scale.reshape(rows, -1), minimum.reshape(rows, -1))
