"""Dequantises part of a tiled weight on its way into a product with many columns."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.engine.kernels.loading import shared_walkers
from studio.engine.kernels.program import Program
from studio.engine.kernels.tiles import ROWS

if TYPE_CHECKING:
    from studio.contracts import FloatArray
    from studio.engine.kernels.tiles import Tiles


def panel(tiles: Tiles, first: int, last: int) -> FloatArray:
    """Return the rows of tiles `first` to `last` as float32 ``[rows, in]``: the compiled `Tiles.dense`.

    Its columns lie one after the other in memory, which a product takes as well.
    """
    room = np.empty((tiles.shape[1], (last - first + 1) * ROWS), np.float32)  # a tile more: strides of a
    program = Program(shared_walkers())  # power of two would meet in one place of the cache
    program.spread(tiles, first, last, room)
    program.finish()
    program.run()
    rows: FloatArray = room.T[: min(last * ROWS, tiles.shape[0]) - first * ROWS]
    return rows
