"""Writes programs: the steps of a token as rows of numbers, and the memory they work in."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.engine.kernels.memory import aligned
from studio.engine.kernels.products import FIXED_BYTES
from studio.engine.kernels.steps import COLUMNS, Step
from studio.engine.kernels.tiles import BLOCK, ROWS
from studio.engine.kernels.walkers import SLOT
from studio.engine.token_plan import Activation

if TYPE_CHECKING:
    from studio.contracts import FloatArray
    from studio.engine.kernels.tiles import Tiles
    from studio.engine.kernels.walkers import Walkers

CHUNKS_A_THREAD = 4
"""Into how many chunks each thread's share of a step is cut."""


GELU_SLOPE = 2 * math.sqrt(2 / math.pi)

SLOPES = {Activation.SILU: (1.0, 0.0), Activation.GELU: (GELU_SLOPE, 0.044715 * GELU_SLOPE)}
"""c and d of x sigmoid(x (c + d x^2)): gelu's approximation by tanh is of this form, as is silu."""


@dataclass(frozen=True)
class HeadNorm:
    """A norm of heads.

    Attributes
    ----------
    weight
        float32 ``[head_size]``, which all heads share, or ``[heads, head_size]``; or ``[heads * head_size]``,
        where the values of all heads are normalised together.
    epsilon
        Added to the mean square.
    centred
        Whether the mean is taken off first.
    """

    weight: FloatArray
    epsilon: float
    centred: bool


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

    def fixed_place(self) -> tuple[int, int]:
        """Return the address of the fixed point, and the distance to the next thread's."""
        return self.fixed.ctypes.data, self.fixed.shape[1] if self.stride else 0


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

    def norm(
        self,
        x: Operand,
        weight: FloatArray,
        epsilon: float,
        out: Operand,
        *,
        fixed: bool,
        bias: FloatArray | None = None,
        centred: bool = False,
        adds: bool = False,
    ) -> None:
        """Normalise x, or add that to out; every thread for itself, and so `out` is one of each thread's own.

        Parameters
        ----------
        weight, bias
            ``[width]``.
        fixed
            Whether to write the fixed point, too.
        centred
            Whether the mean is taken off first.
        """
        self._add(
            Step.NORM,
            *x.place(),
            self._keep(_padded(weight)),
            0 if bias is None else self._keep(_padded(bias)),
            x.size,
            self._number(epsilon),
            int(centred),
            *out.place(),
            int(adds),
            *(out.fixed_place() if fixed else (0, 0)),
        )
        self._kept += [x, out]

    def fix(self, x: Operand, own: Operand) -> None:
        """Write the fixed point of an operand to one of each thread's own, at least as long."""
        blocks = x.fixed.shape[1] // FIXED_BYTES
        self._add(Step.FIX, *x.place(), blocks, *own.fixed_place())
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
            place = x.fixed_place() if tiles.kind.coded else x.place()
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
        self,
        vector: FloatArray,
        heads: int,
        size: int,
        angles: FloatArray,
        *,
        apart: int,
        out: FloatArray | None = None,
        norm: HeadNorm | None = None,
    ) -> int:
        """Norm heads, rotate them by angles ``[2, count]`` (cosines, sines), and write them to `out`.

        Where `out` is None they belong into a cache: `store_in` says which by the row that is returned.
        """
        cosines, count = angles.ctypes.data, angles.shape[1]
        normed = (0, 0, 0, 0, 0) if norm is None else self._normed_heads(norm, heads, size)
        self._add(
            Step.TURN,
            vector.ctypes.data,
            heads,
            size,
            cosines,
            cosines + 4 * count,
            count,
            apart,
            2 if apart == 1 else 1,
            0 if out is None else out.ctypes.data,
            4 * size,
            0,
            self._claim(1)[0],
            *normed,
        )
        self._kept += [vector, angles, out]
        return len(self._rows) - 1

    def store_in(self, row: int, cached: FloatArray) -> None:
        """Let a turned vector go to a cache ``[1, groups, capacity, size]``."""
        self.steps[row, 9:12] = cached.ctypes.data, cached.strides[1], cached.strides[2]

    def attend(
        self,
        queries: FloatArray,
        out: Operand,
        heads: int,
        groups: int,
        size: int,
        *,
        scale: float,
        cap: float | None = None,
        window: int | None = None,
    ) -> int:
        """Let heads attend; return the row, for `attend_to`."""
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
            self._number(scale),
            self._claim(1)[0],
            window or 0,
            0 if cap is None else self._number(cap),
        )
        self._kept += [queries, out]
        return len(self._rows) - 1

    def attend_to(self, row: int, keys: FloatArray, values: FloatArray, scores: FloatArray) -> None:
        """Let heads attend to a cache ``[1, groups, capacity, size]``, with room for scores by thread."""
        self.steps[row, 5:8] = keys.ctypes.data, values.ctypes.data, keys.shape[2]
        self.steps[row, 9:11] = scores.ctypes.data, scores[0].nbytes

    def gate(self, gates: FloatArray, ups: FloatArray | None, out: Operand, activation: Activation) -> None:
        """Compute activation(gates) * ups, or without any ups activation(gates)."""
        length = -(-out.size // ROWS)
        places = (gates.ctypes.data, 0 if ups is None else ups.ctypes.data, out.values.ctypes.data)
        slopes = self._keep(np.array(SLOPES[activation], np.float32))
        self._add(Step.GATE, *places, length, *self._claim(length), slopes)
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

    def _normed_heads(self, norm: HeadNorm, heads: int, size: int) -> tuple[int, ...]:
        """Return what a turn is told of a norm."""
        together = heads * size if norm.weight.shape == (heads * size,) else size
        of_head = 0 if norm.weight.size == size else 4 * size
        weight = self._keep(_padded(norm.weight))
        return weight, of_head, together, self._number(norm.epsilon), int(norm.centred)

    def _number(self, value: float) -> int:
        """Hold one float32, and return its address."""
        return self._keep(np.array([value], np.float32))

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
