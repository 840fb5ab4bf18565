"""The product of a matrix and columns in a CPU's matrix unit, on the calling thread."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import numpy as np
from numba import types

from studio.engine.kernels import vectors as v
from studio.engine.kernels.compilation import compiled, kernel
from studio.engine.kernels.matrix_tiles import (
    CELL_BYTES,
    CONFIGURATION,
    PARTS,
    STEPS,
    TILE_BYTES,
    begin_tiles,
    end_tiles,
    multiply_tiles,
    put_parts,
    transpose_tile,
)

if TYPE_CHECKING:
    from studio.contracts import FloatArray

MOST_TILES = 18
"""How many tiles of steps are taken at a time: what is packed then stays in the second cache."""

SIDE = 32
"""Rows, and columns, of what is multiplied at once: two tiles of each."""


@kernel
def next_steps(depth: int) -> int:
    """Share what is left of the depth out evenly; return how many tiles of steps are next."""
    tiles = -(-depth // STEPS)
    return -(-tiles // -(-tiles // MOST_TILES))


@kernel
def put_edge(place: int, low: int, high: int, low_left: int, high_left: int) -> None:
    """Pack two rows of a tile that may end before it does: what they lack is zero."""
    put_parts(place, v.floats_up_to(low, low_left), v.floats_up_to(high, high_left))


@kernel
def pack_columns(x: int, x_row: int, rows: int, columns: int, tiles: int, steps: int, to: int) -> None:
    """Split rows of float32 into tiles whose steps they are, by tiles of 16 columns.

    Parameters
    ----------
    rows, columns
        How many there are; what the tiles lack of them is zero.
    tiles, steps
        How many tiles there are, of columns and of steps.
    """
    for step in range(steps):
        for word in range(16):
            row = step * STEPS + word
            for tile in range(tiles):
                low, high = x + row * x_row + 64 * tile, x + (row + 16) * x_row + 64 * tile
                left = columns - 16 * tile
                place = to + (tile * steps + step) * CELL_BYTES + 64 * word
                if left >= 16 and row + 16 < rows:
                    put_parts(place, v.floats_at(low), v.floats_at(high))
                else:
                    put_edge(place, low, high, left if row < rows else 0, left if row + 16 < rows else 0)


@kernel
def pack_rows(m: int, m_row: int, rows: int, columns: int, steps: int, to: int) -> None:
    """Split 32 rows of float32 into two tiles of rows, by steps along them."""
    for row in range(SIDE):
        place = to + (row // 16) * steps * CELL_BYTES + 64 * (row % 16)
        for step in range(steps):
            at = m + row * m_row + 4 * STEPS * step
            left = columns - STEPS * step if row < rows else 0
            if left >= STEPS:
                put_parts(place + step * CELL_BYTES, v.floats_at(at), v.floats_at(at + 64))
            else:
                put_edge(place + step * CELL_BYTES, at, at + 64, left, left - 16)


@kernel
def transpose_cells(cells: int, place: int, to: int) -> None:
    """Transpose every tile of so many cells."""
    for tile in range(cells * PARTS):
        transpose_tile(place + tile * TILE_BYTES, to + tile * TILE_BYTES)


@kernel
def add_tile(tile: int, y: int, y_row: int, rows: int, columns: int, add: int) -> None:
    """Put a tile of a result into its place, or add it to what is there."""
    for row in range(min(16, rows)):
        at, values = y + row * y_row, v.floats_at(tile + 64 * row)
        if add:
            values = v.add(values, v.floats_up_to(at, columns))
        v.put_floats_up_to(at, values, columns)


SIGNATURE = types.void(*[types.int64] * 13)


@compiled(SIGNATURE)
def multiply_by_rows(
    m: int, m_row: int, x: int, x_row: int, y: int, y_row: int,
    rows: int, depth: int, count: int, add: int, configuration: int, panel: int, strip: int,
) -> None:  # fmt: skip
    """Multiply a matrix whose rows are contiguous."""
    begin_tiles(configuration)
    tiles, result = 2 * ((count + SIDE - 1) // SIDE), strip + 2 * MOST_TILES * CELL_BYTES
    first = 0
    while first < depth:
        steps = next_steps(depth - first)
        cells = steps * CELL_BYTES
        taken = min(steps * STEPS, depth - first)
        adding = 1 if first > 0 else add
        pack_columns(x + first * x_row, x_row, taken, count, tiles, steps, panel)
        for row in range(0, rows, SIDE):
            pack_rows(m + row * m_row + 4 * first, m_row, rows - row, taken, steps, strip)
            for tile in range(0, tiles, 2):
                ahead = m + (row + SIDE + 4 * tile) * m_row + 4 * first
                multiply_tiles(
                    strip, cells, panel + tile * cells, cells, steps, result,
                    ahead, 4 * STEPS, m_row,
                )  # fmt: skip
                for part in range(4):
                    down, right = row + 16 * (part // 2), 16 * (tile + part % 2)
                    add_tile(
                        result + part * TILE_BYTES, y + down * y_row + 4 * right, y_row,
                        rows - down, count - right, adding,
                    )  # fmt: skip
        first += taken
    end_tiles()


@compiled(SIGNATURE)
def multiply_by_columns(
    m: int, m_step: int, x: int, x_row: int, y: int, y_row: int,
    rows: int, depth: int, count: int, add: int, configuration: int, panel: int, strip: int,
) -> None:  # fmt: skip
    """Multiply a matrix whose columns are contiguous: the transposed product, transposed tile by tile."""
    begin_tiles(configuration)
    tiles, result = 2 * ((count + SIDE - 1) // SIDE), strip + 2 * MOST_TILES * CELL_BYTES
    first = 0
    while first < depth:
        steps = next_steps(depth - first)
        cells = steps * CELL_BYTES
        taken = min(steps * STEPS, depth - first)
        adding = 1 if first > 0 else add
        pack_columns(x + first * x_row, x_row, taken, count, tiles, steps, panel)
        transpose_cells(tiles * steps, panel, panel)
        for row in range(0, rows, SIDE):
            pack_columns(m + first * m_step + 4 * row, m_step, taken, rows - row, 2, steps, strip)
            for tile in range(0, tiles, 2):
                ahead = m + (first + 4 * tile) * m_step + 4 * (row + SIDE)
                multiply_tiles(
                    panel + tile * cells, cells, strip, cells, steps, result,
                    ahead, STEPS * m_step, m_step,
                )  # fmt: skip
                for part in range(4):
                    down, right = row + 16 * (part % 2), 16 * (tile + part // 2)
                    transpose_tile(result + part * TILE_BYTES, result + part * TILE_BYTES)
                    add_tile(
                        result + part * TILE_BYTES, y + down * y_row + 4 * right, y_row,
                        rows - down, count - right, adding,
                    )  # fmt: skip
        first += taken
    end_tiles()


class Scratch(threading.local):
    """What a thread packs operands into."""

    def __init__(self) -> None:
        self.room = np.empty(0, np.uint8)

    def of(self, count: int) -> tuple[int, int]:
        """Return the addresses of a panel for so many columns, and of a strip."""
        panel = 2 * ((count + SIDE - 1) // SIDE) * MOST_TILES * CELL_BYTES
        needed = panel + 2 * MOST_TILES * CELL_BYTES + 4 * TILE_BYTES + 64
        if len(self.room) < needed:
            self.room = np.empty(needed, np.uint8)
        start = -(-self.room.ctypes.data // 64) * 64
        return start, start + panel


_scratch = Scratch()


def multiply_in_tiles(matrix: FloatArray, columns: FloatArray, result: FloatArray, *, add: bool) -> None:
    """Compute ``[out, in] @ [in, C] -> [out, C]`` into a result, or add it to what is there.

    The rows or the columns of the matrix are contiguous; the rows of columns and result are.
    """
    (rows, depth), count = matrix.shape, columns.shape[1]
    by_rows = matrix.strides[1] == 4
    (multiply_by_rows if by_rows else multiply_by_columns)(
        matrix.ctypes.data, matrix.strides[0 if by_rows else 1],
        columns.ctypes.data, columns.strides[0],
        result.ctypes.data, result.strides[0],
        rows, depth, count, int(add), CONFIGURATION.ctypes.data, *_scratch.of(count),
    )  # fmt: skip
