"""Products of tiles in the matrix unit that some CPUs have (AMX), as exact as those of float32.

The unit multiplies bfloat16 and sums in float32. A float32 of 24 bits is the sum of three bfloat16 of 8 bits,
and of the nine products of the parts of two, the six largest give what float32 does but for its last bit:
Henry et al. 2019, https://arxiv.org/abs/1904.06376, section III. Six products in the unit take less time than
one in vectors.

A tile is 16 rows of 64 bytes: of a left operand, 16 rows of 32 steps; of a right one, 32 steps of 16 columns.
Each word holds two steps, 16 apart. A cell is the tiles of the three parts, one after the other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from studio.engine.kernels.instructions import (
    BYTE,
    FLOAT_LANES,
    LANES,
    WORD_LANES,
    call,
    emit,
    load,
    number,
    pointer,
    prefetch,
    same,
    store,
)
from studio.engine.kernels.vectors import FLOATS

if TYPE_CHECKING:
    from collections.abc import Sequence

TILE_BYTES = 1024
PARTS = 3
CELL_BYTES = PARTS * TILE_BYTES

STEPS = 32
"""How many steps of a product a tile holds."""

PIECES = 8
"""How many pieces of memory are asked for at each of them."""

PRODUCTS = ((2, 0), (0, 0), (0, 2), (0, 1), (1, 1), (1, 0))
"""Which part of the left operand goes with which of the right: one of the two stays from each to the next."""

CONFIGURATION = np.zeros(64, np.uint8)
"""What the unit is told of its eight tiles: Intel 64 manual, volume 1, section 18.2."""
CONFIGURATION[0] = 1
CONFIGURATION[16:32:2] = 64  # bytes a row
CONFIGURATION[48:56] = 16  # rows


def _do(build: Any, name: str, *arguments: Any) -> None:
    """Do one of the unit's instructions; a small number names a tile."""
    operands = [ir.Constant(BYTE, one) if isinstance(one, int) else one for one in arguments]
    call(build, f"llvm.x86.{name}", ir.VoidType(), operands)


@intrinsic
def begin_tiles(_: Any, configuration: Any) -> Any:
    """Set the unit up for this thread."""

    def lower(build: Any, place: Any) -> Any:
        _do(build, "ldtilecfg", pointer(build, place))
        return place

    return emit(types.int64(types.int64), lower)


@intrinsic
def end_tiles(_: Any) -> Any:
    """Give the unit back: a thread that holds it costs the system more."""

    def lower(build: Any) -> Any:
        _do(build, "tilerelease")
        return number(0)

    return emit(types.int64(), lower)


@intrinsic
def multiply_tiles(
    _: Any,
    left: Any,
    left_apart: Any,
    right: Any,
    right_apart: Any,
    count: Any,
    to: Any,
    ahead: Any,
    ahead_step: Any,
    ahead_piece: Any,
) -> Any:
    """Multiply two tiles of rows by two of columns, and meanwhile ask for what will be packed next.

    Parameters
    ----------
    left, left_apart
        Where the cells of the first tile of rows are, step by step, and how far on those of the second.
    right, right_apart
        The same of the columns.
    count
        How many cells each has, at least one.
    to
        Where the four products go: by rows, then columns.
    ahead, ahead_step, ahead_piece
        Where the first of eight pieces of 128 bytes lies that will be needed, and how far on those of the
        next cell lie, and the next piece.
    """

    def lower(build: Any, left: Any, left_apart: Any, right: Any, right_apart: Any, *others: Any) -> Any:
        count, to, ahead, ahead_step, ahead_piece = others
        rows, columns = (left, build.add(left, left_apart)), (right, build.add(right, right_apart))
        for tile in range(4):
            _do(build, "tilezero", tile)
        with cgutils.for_range(build, count) as loop:
            needed = build.add(ahead, build.mul(loop.index, ahead_step))
            for piece in range(PIECES):
                at = build.add(needed, build.mul(ahead_piece, number(piece)))
                prefetch(build, at)
                prefetch(build, build.add(at, number(64)))
            _multiply_cells(build, rows, columns, build.mul(loop.index, number(CELL_BYTES)))
        for tile in range(4):
            at = build.add(to, number(tile * TILE_BYTES))
            _do(build, "tilestored64", tile, pointer(build, at), number(64))
        return number(0)

    return emit(types.int64(*[types.int64] * 9), lower)


def _multiply_cells(build: Any, rows: Sequence[Any], columns: Sequence[Any], offset: Any) -> None:
    """Add the products of two cells of rows and two of columns to the first four tiles."""
    held: tuple[int | None, int | None] = (None, None)
    for parts in PRODUCTS:
        for side, (places, part) in enumerate(zip((rows, columns), parts, strict=True)):
            if held[side] != part:
                for which, place in enumerate(places):
                    at = build.add(build.add(place, offset), number(part * TILE_BYTES))
                    _do(build, "tileloadd64", 4 + 2 * side + which, pointer(build, at), number(64))
        held = parts
        for tile in range(4):
            _do(build, "tdpbf16ps", tile, 4 + tile // 2, 6 + tile % 2)


@intrinsic
def put_parts(_: Any, place: Any, low: Any, high: Any) -> Any:
    """Store 16 words, each of two float32, in the tiles of their three parts."""

    def lower(build: Any, place: Any, low: Any, high: Any) -> Any:
        upper = same(-65536)
        for part in range(PARTS):
            low_part = build.and_(build.bitcast(low, WORD_LANES), upper)
            high_part = build.and_(build.bitcast(high, WORD_LANES), upper)
            words = build.or_(build.lshr(low_part, same(16)), high_part)
            store(build, build.add(place, number(part * TILE_BYTES)), words)
            low = build.fsub(low, build.bitcast(low_part, FLOAT_LANES))  # what is left of it is exact
            high = build.fsub(high, build.bitcast(high_part, FLOAT_LANES))
        return number(0)

    return emit(types.int64(types.int64, FLOATS, FLOATS), lower)


@intrinsic
def transpose_tile(_: Any, place: Any, to: Any) -> Any:
    """Transpose the 16 x 16 words of a tile."""

    def lower(build: Any, place: Any, to: Any) -> Any:
        rows = [load(build, build.add(place, number(64 * row)), WORD_LANES) for row in range(LANES)]
        for apart in (8, 4, 2, 1):  # exchange squares of this size beside the diagonal
            first = [lane if not lane & apart else LANES + lane - apart for lane in range(LANES)]
            second = [lane + apart if not lane & apart else LANES + lane for lane in range(LANES)]
            for row in range(LANES):
                if not row & apart:
                    pair = rows[row], rows[row + apart]
                    rows[row] = build.shuffle_vector(*pair, ir.Constant(WORD_LANES, first))
                    rows[row + apart] = build.shuffle_vector(*pair, ir.Constant(WORD_LANES, second))
        for row, words in enumerate(rows):
            store(build, build.add(to, number(64 * row)), words)
        return number(0)

    return emit(types.int64(types.int64, types.int64), lower)
