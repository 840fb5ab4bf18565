"""A tile of a product of matrices, in registers from its first step to its last.

Goto and van de Geijn 2008, https://doi.org/10.1145/1356052.1356053, section 5: 6 rows of 64 columns are 24
vectors of sums, which with the 4 of a row of columns leave enough of the 32 registers of AVX-512. Nothing is
repacked: a row of columns is contiguous, and each value of the matrix is repeated as it is met.
"""

from __future__ import annotations

from typing import Any

from numba import types
from numba.extending import intrinsic

from studio.engine.kernels.instructions import (
    ADDRESS,
    FAST,
    FLOAT,
    FLOAT_LANES,
    LANES,
    NO_FLOATS,
    first_lanes,
    load,
    load_some,
    number,
    prefetch,
    repeat,
    store,
    store_some,
)

ROWS, VECTORS = 6, 4
COLUMNS = VECTORS * LANES

STEPS_AHEAD = 64
"""How many steps of neighbouring rows are taken at a time: their lines fit the first cache."""


def product_tile(rows: int, vectors: int, *, neighbours: bool, masked: bool) -> Any:
    """Make the intrinsic for tiles of so many rows and vectors of columns.

    It takes, all int64: the addresses of the tile's first value in the matrix, in the columns and in the
    result, the first followed by the bytes between rows and between steps of the matrix, the others by those
    between their rows; the number of steps; 1 to add to what the result holds, or 0; and how many columns
    there are.

    Parameters
    ----------
    neighbours
        Whether the rows of the matrix, and not its steps, are neighbours in memory.
    masked
        Whether there may be fewer columns than the vectors have lanes.
    """

    def lower(_: Any, build: Any, __: Any, arguments: Any) -> Any:
        matrix, row_bytes, step_bytes, columns, column_bytes, result, result_bytes, *others = arguments
        steps, add, count = others
        places = [number(4 * row) if neighbours else build.mul(row_bytes, number(row)) for row in range(rows)]
        masks = [
            first_lanes(build, build.sub(count, number(LANES * vector))) if masked else None
            for vector in range(vectors)
        ]
        results = [
            [_after(build, result, result_bytes, row, 64 * vector) for vector in range(vectors)]
            for row in range(rows)
        ]
        before = build.block
        loop, end = build.append_basic_block("step"), build.append_basic_block("end")
        build.branch(loop)
        build.position_at_end(loop)
        step, matrix_at, columns_at = (build.phi(ADDRESS) for _ in range(3))
        sums = [[build.phi(FLOAT_LANES) for _ in range(vectors)] for _ in range(rows)]
        loaded = [
            _load(build, build.add(columns_at, number(64 * vector)), mask)
            for vector, mask in enumerate(masks)
        ]
        totals = []
        for place, its in zip(places, sums, strict=True):
            value = repeat(build, load(build, build.add(matrix_at, place), FLOAT), FLOAT_LANES)
            products = [build.fmul(value, column, flags=FAST) for column in loaded]
            totals.append(
                [build.fadd(one, total, flags=FAST) for one, total in zip(products, its, strict=True)]
            )
        if neighbours:  # the same rows, some steps on
            prefetch(build, build.add(matrix_at, build.mul(step_bytes, number(STEPS_AHEAD))))
        else:  # the rows behind, taken as one run
            behind = _after(build, matrix_at, row_bytes, rows, 0)
            prefetch(build, build.add(behind, build.mul(step, number(4 * rows - 4))))
        following = [
            (step, number(0), build.add(step, number(1))),
            (matrix_at, matrix, build.add(matrix_at, step_bytes)),
            (columns_at, columns, build.add(columns_at, column_bytes)),
        ]
        for its, new in zip(sums, totals, strict=True):
            following += [(phi, NO_FLOATS, total) for phi, total in zip(its, new, strict=True)]
        for phi, first, new in following:
            phi.add_incoming(first, before)
            phi.add_incoming(new, loop)
        build.cbranch(build.icmp_signed("<", following[0][2], steps), loop, end)
        build.position_at_end(end)
        _put(build, add, results, totals, masks)
        return number(0)

    @intrinsic
    def tile(
        _: Any,
        matrix: Any,
        row_bytes: Any,
        step_bytes: Any,
        columns: Any,
        column_bytes: Any,
        result: Any,
        result_bytes: Any,
        steps: Any,
        add: Any,
        count: Any,
    ) -> Any:
        """Compute it."""
        return types.int64(*[types.int64] * 10), lower

    return tile


def _after(build: Any, place: Any, row_bytes: Any, row: int, distance: int) -> Any:
    """Return the address of a value some rows and bytes on."""
    return build.add(build.add(place, build.mul(row_bytes, number(row))), number(distance))


def _put(build: Any, add: Any, places: list[list[Any]], totals: list[list[Any]], masks: list[Any]) -> None:
    """Store the sums, or add them to what the result holds: a long product is summed up in pieces."""
    held, nothing, done = (build.append_basic_block(name) for name in ("held", "nothing", "done"))
    build.cbranch(build.icmp_signed("!=", add, number(0)), held, nothing)
    for block in (held, nothing):
        build.position_at_end(block)
        for row, sums in zip(places, totals, strict=True):
            for place, total, mask in zip(row, sums, masks, strict=True):
                before = _load(build, place, mask) if block is held else None
                _store(build, place, total if before is None else build.fadd(before, total), mask)
        build.branch(done)
    build.position_at_end(done)


def _load(build: Any, place: Any, mask: Any) -> Any:
    return load(build, place, FLOAT_LANES) if mask is None else load_some(build, place, mask)


def _store(build: Any, place: Any, value: Any, mask: Any) -> None:
    if mask is None:
        store(build, place, value)
    else:
        store_some(build, place, value, mask)
