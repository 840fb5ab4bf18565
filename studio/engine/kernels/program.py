"""Writes programs: the steps of a token as rows of numbers, and the memory they work in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from studio.engine.kernels.memory import aligned
from studio.engine.kernels.products import FIXED_BYTES
from studio.engine.kernels.steps import COLUMNS, Step
from studio.engine.kernels.tiles import BLOCK, ROWS
from studio.engine.kernels.walkers import SLOT

if TYPE_CHECKING:
    from studio.contracts import FloatArray
    from studio.engine.kernels.tiles import Tiles
    from studio.engine.kernels.walkers import Walkers

CHUNKS_A_THREAD = 4
"""Into how many chunks each thread's share of a step is cut."""


class Operand:
    """An activation: float32 ``[size]``, and its fixed point where a product with codes needs it.

    Parameters
    ----------
    threads
        How many threads have one of their own; 1 where all share it.
    """

    def __init__(self, size: int, threads: int = 1) -> None:
        padded = -(-size // BLOCK) * BLOCK
        self.size = size
        self.values: FloatArray = aligned((threads, padded), np.float32)
        self.fixed = aligned((threads, padded // BLOCK * FIXED_BYTES), np.uint8)
        self.stride = 4 * padded if threads > 1 else 0

    def place(self) -> tuple[int, int]:
        """Return the address of the values, and the distance to the next thread's."""
        return self.values.ctypes.data, self.stride


class Program:
    """A list of steps under construction, then ready to be walked.

    Parameters
    ----------
    walkers
        Who will walk it.
    """

    def __init__(self, walkers: Walkers) -> None:
        self._walkers = walkers
        self._rows: list[list[int]] = []
        self._kept: list[Any] = []  # what the addresses point into
        self._slots = 1
        self._claims: list[tuple[int, int]] = []
        self.steps = np.zeros((0, COLUMNS), np.int64)
        self._counters = np.zeros(0, np.int64)

    def meet(self) -> None:
        """Let all threads finish what stands before."""
        self._add(Step.MEET)

    def norm(self, x: Operand, weight: FloatArray, epsilon: float, out: Operand, *, fixed: bool) -> None:
        """Normalise x; every thread for itself."""
        small = self._keep(np.array([epsilon], np.float32))
        size = out.fixed.shape[1] if out.stride else 0
        self._add(
            Step.NORM,
            x.values.ctypes.data,
            self._keep(_padded(weight)),
            x.size,
            small,
            *out.place(),
            out.fixed.ctypes.data if fixed else 0,
            size,
        )
        self._kept += [x, out]

    def fix(self, x: Operand, own: Operand) -> None:
        """Write the fixed point of a shared operand to one of each thread's own, at least as long."""
        blocks = x.fixed.shape[1] // FIXED_BYTES
        size = own.fixed.shape[1] if own.stride else 0
        self._add(Step.FIX, x.values.ctypes.data, blocks, own.fixed.ctypes.data, size)
        self._kept += [x, own]

    def product(
        self,
        tiles: Tiles,
        x: Operand | FloatArray,
        out: FloatArray,
        *,
        scale: FloatArray | None = None,
        bias: FloatArray | None = None,
        adds: bool = False,
    ) -> None:
        """Multiply: out = scale * (W x) + bias, or add that to out. `out` has room for whole tiles."""
        count = len(tiles.records)
        if isinstance(x, Operand):
            size = x.fixed.shape[1] if x.stride else 0
            place = (x.fixed.ctypes.data, size) if tiles.kind.coded else x.place()
        else:
            place = (x.ctypes.data, 0)
        assert out.size >= count * ROWS
        self._add(
            Step.PRODUCT,
            int(tiles.kind),
            tiles.records.ctypes.data,
            tiles.records[0].nbytes,
            count,
            tiles.shape[1] // BLOCK if tiles.kind.coded else tiles.shape[1],
            *place,
            out.ctypes.data,
            0 if scale is None else scale.ctypes.data,
            0 if bias is None else self._keep(_padded(bias)),
            int(adds),
            *self._claim(count),
        )
        self._kept += [tiles, x, out, scale]

    def turn(
        self, vector: FloatArray, heads: int, size: int, angles: FloatArray, *, apart: int, count: int
    ) -> int:
        """Rotate heads by `count` angles ``[2, count]`` (cosines, sines); return the row, for its cache."""
        cosines = angles.ctypes.data
        distance = 2 if apart == 1 else 1
        self._add(
            Step.TURN,
            vector.ctypes.data,
            heads,
            size,
            cosines,
            cosines + 4 * (angles.shape[1]),
            count,
            0,
            0,
            self._claim(1)[0],
            apart,
            distance,
        )
        self._kept += [vector, angles]
        return len(self._rows) - 1

    def attend(self, queries: FloatArray, out: Operand, heads: int, groups: int, size: int) -> int:
        """Let heads attend; return the row, for its cache and its scores."""
        scale = self._keep(np.array([size**-0.5], np.float32))
        self._add(
            Step.ATTEND,
            queries.ctypes.data,
            heads,
            heads // groups,
            size,
            0,
            0,
            0,
            out.values.ctypes.data,
            0,
            0,
            scale,
            self._claim(1)[0],
            0,
        )
        self._kept += [queries, out]
        return len(self._rows) - 1

    def gate(self, gates: FloatArray, ups: FloatArray, out: Operand) -> None:
        """Compute silu(gates) * ups."""
        length = -(-out.size // ROWS)
        places = (gates.ctypes.data, ups.ctypes.data, out.values.ctypes.data)
        self._add(Step.GATE, *places, length, *self._claim(length))
        self._kept += [gates, ups, out]

    def spread(self, tiles: Tiles, first: int, last: int, panel: FloatArray) -> None:
        """Dequantise some tiles into a panel ``[in, rows or more]``, a column of the weight in each row."""
        records = tiles.records[first:last]
        self._add(
            Step.SPREAD,
            int(tiles.kind),
            records.ctypes.data,
            records[0].nbytes,
            len(records),
            tiles.shape[1] // BLOCK if tiles.kind.coded else tiles.shape[1],
            panel.ctypes.data,
            panel.strides[0],
            *self._claim(len(records)),
        )
        self._kept += [tiles, panel]

    def finish(self) -> None:
        """Make the table; no step can be added after."""
        self._counters = aligned((self._slots * SLOT,), np.int64)
        table = np.zeros((len(self._rows), COLUMNS), np.int64)
        for index, row in enumerate(self._rows):
            table[index, : len(row)] = row
        start = self._counters.ctypes.data
        for row_index, column in self._claims:
            table[row_index, column] = start + 8 * SLOT * table[row_index, column]
        self.steps = table

    def run(self, position: int = 0) -> None:
        """Walk through the steps."""
        self._walkers.walk(self.steps, self._counters, position)

    def _add(self, step: Step, *numbers: int) -> None:
        row = [int(step), *map(int, numbers)]
        for column, number in enumerate(numbers):
            if isinstance(number, _Slot):
                self._claims.append((len(self._rows), column + 1))
        self._rows.append(row)

    def _claim(self, count: int) -> tuple[_Slot, int]:
        """Take a counter for claims, and say how many of `count` pieces a claim takes."""
        slot = _Slot(self._slots)
        self._slots += 1
        return slot, max(1, count // (CHUNKS_A_THREAD * self._walkers.threads))

    def _keep(self, array: np.ndarray[Any, Any]) -> int:
        """Hold an array for as long as the program, and return its address."""
        self._kept.append(array)
        return array.ctypes.data


class _Slot(int):
    """The number of a counter, which becomes its address."""


def _padded(vector: FloatArray) -> FloatArray:
    """Copy a vector to memory with room for whole tiles."""
    room: FloatArray = aligned((-(-vector.size // ROWS) * ROWS,), np.float32)
    room[: vector.size] = vector.reshape(-1)
    return room
