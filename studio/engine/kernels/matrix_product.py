"""The compiled product of a matrix and columns, on the calling thread: what training spends its time in.

BLAS repacks a matrix at every call, which takes a fifth of a product with 128 columns. Nothing is repacked
here, and a product can be added to what there is.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import types

from studio.engine.kernels.compilation import compiled, kernel
from studio.engine.kernels.cpu import has_matrix_unit
from studio.engine.kernels.product_tile import COLUMNS, ROWS, STEPS_AHEAD, product_tile

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import FloatArray

LONGEST = 128
"""How many steps of rows that are apart are summed up at a time."""

LEAST_SIDE, LEAST_COLUMNS = 128, 48
"""How large a matrix, and how many columns, are worth packing for the matrix unit."""

apart_full = product_tile(ROWS, 4, neighbours=False, masked=False)
apart_some = product_tile(ROWS, 4, neighbours=False, masked=True)
apart_few = product_tile(ROWS, 1, neighbours=False, masked=True)
apart_row = product_tile(1, 4, neighbours=False, masked=True)
side_full = product_tile(ROWS, 4, neighbours=True, masked=False)
side_some = product_tile(ROWS, 4, neighbours=True, masked=True)
side_few = product_tile(ROWS, 1, neighbours=True, masked=True)
side_row = product_tile(1, 4, neighbours=True, masked=True)


@kernel
def _strip_apart(
    m: int, row: int, x: int, x_row: int, y: int, y_row: int, steps: int, add: int, count: int, rows: int
) -> None:
    """Multiply some rows, whose values lie one after the other, by all columns."""
    for column in range(0, count, COLUMNS):
        left = count - column
        x_at, y_at = x + 4 * column, y + 4 * column
        if rows < ROWS:
            for one in range(rows):
                apart_row(m + one * row, row, 4, x_at, x_row, y_at + one * y_row, y_row, steps, add, left)
        elif left >= COLUMNS:
            apart_full(m, row, 4, x_at, x_row, y_at, y_row, steps, add, left)
        elif left > 16:
            apart_some(m, row, 4, x_at, x_row, y_at, y_row, steps, add, left)
        else:
            apart_few(m, row, 4, x_at, x_row, y_at, y_row, steps, add, left)


@kernel
def _strip_side(
    m: int, step: int, x: int, x_row: int, y: int, y_row: int, steps: int, add: int, count: int, rows: int
) -> None:
    """Multiply some rows that are neighbours by all columns."""
    for column in range(0, count, COLUMNS):
        left = count - column
        x_at, y_at = x + 4 * column, y + 4 * column
        if rows < ROWS:
            for one in range(rows):
                side_row(m + one * 4, 4, step, x_at, x_row, y_at + one * y_row, y_row, steps, add, left)
        elif left >= COLUMNS:
            side_full(m, 4, step, x_at, x_row, y_at, y_row, steps, add, left)
        elif left > 16:
            side_some(m, 4, step, x_at, x_row, y_at, y_row, steps, add, left)
        else:
            side_few(m, 4, step, x_at, x_row, y_at, y_row, steps, add, left)


@cache
def _multiply_in_tiles() -> Callable[..., None] | None:
    """Return the product in the CPU's matrix unit, where it has one."""
    if not has_matrix_unit():
        return None
    from studio.engine.kernels.tiled_product import multiply_in_tiles

    return multiply_in_tiles


SIGNATURE = types.void(*[types.int64] * 10)


@compiled(SIGNATURE)
def _multiply_apart(
    m: int, row: int, x: int, x_row: int, y: int, y_row: int, rows: int, depth: int, count: int, add: int
) -> None:
    """Multiply a matrix whose rows are contiguous."""
    for first in range(0, depth, LONGEST):
        steps = min(LONGEST, depth - first)
        adding = 1 if first > 0 else add
        for start in range(0, rows, ROWS):
            _strip_apart(
                m + start * row + 4 * first, row, x + first * x_row, x_row, y + start * y_row, y_row,
                steps, adding, count, min(ROWS, rows - start),
            )  # fmt: skip


@compiled(SIGNATURE)
def _multiply_side(
    m: int, step: int, x: int, x_row: int, y: int, y_row: int, rows: int, depth: int, count: int, add: int
) -> None:
    """Multiply a matrix whose columns are contiguous."""
    for first in range(0, depth, STEPS_AHEAD):
        steps = min(STEPS_AHEAD, depth - first)
        adding = 1 if first > 0 else add
        for start in range(0, rows, ROWS):
            _strip_side(
                m + start * 4 + step * first, step, x + first * x_row, x_row, y + start * y_row, y_row,
                steps, adding, count, min(ROWS, rows - start),
            )  # fmt: skip


def multiply(matrix: FloatArray, columns: FloatArray, total: FloatArray | None = None) -> FloatArray:
    """Compute M X: ``[out, in] @ [in, C] -> [out, C]``; add it to a total ``[out, C]`` where one is given.

    A matrix of rows or of columns that are contiguous is taken as it lies, and so are columns and a total
    whose rows are contiguous; others are copied.
    """
    (rows, depth), count = matrix.shape, columns.shape[1]
    columns = columns if columns.strides[1] == 4 else np.ascontiguousarray(columns)
    result = np.empty((rows, count), np.float32) if total is None else total
    if not rows * depth * count:
        if total is None:
            result[...] = 0
        return result
    assert result.strides[1] == 4 or count == 1, "a total's rows are contiguous"
    by_rows = matrix.strides[1] == 4
    if not by_rows and matrix.strides[0] != 4:
        matrix, by_rows = np.ascontiguousarray(matrix), True
    in_tiles = _multiply_in_tiles()
    if in_tiles is not None and min(rows, depth) >= LEAST_SIDE and count >= LEAST_COLUMNS:
        in_tiles(matrix, columns, result, add=total is not None)
        return result
    run: Any = _multiply_apart if by_rows else _multiply_side
    run(
        matrix.ctypes.data, matrix.strides[0 if by_rows else 1],
        columns.ctypes.data, columns.strides[0],
        result.ctypes.data, result.strides[0],
        rows, depth, count, int(total is not None),
    )  # fmt: skip
    return result
