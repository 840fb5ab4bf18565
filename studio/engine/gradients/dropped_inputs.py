"""Which inputs of an adapter in training are left out, pass by pass."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import EngineError

if TYPE_CHECKING:
    from studio.contracts import Dropout
    from studio.engine.backend import Array, HostArray


class DroppedInputs:
    """Chooses by seed, pass and place alone: a layer that runs a second time is given the same.

    Attributes
    ----------
    passes
        How many there have been.
    start
        The first position of the part of the pass.

    Raises
    ------
    EngineError
        The rate is not from 0 to below 1.
    """

    def __init__(self, dropout: Dropout) -> None:
        if not 0 <= dropout.rate < 1:
            raise EngineError(f"{dropout.rate} is no rate of dropout", remedy="Choose one from 0 to below 1")
        self._dropout = dropout
        self.passes = 0
        self.start = 0

    @property
    def are_any(self) -> bool:
        """Whether anything is left out."""
        return self._dropout.rate > 0

    def kept(self, place: object, shape: tuple[int, ...]) -> HostArray:
        """Say which inputs of a place are kept: bool, in their shape."""
        numbered = zlib.crc32(str(place).encode())
        random = np.random.default_rng([self._dropout.seed, self.passes, self.start, numbered])
        return random.random(shape, dtype=np.float32) >= self._dropout.rate

    def without(self, array: Array, kept: Array) -> Array:
        """Leave out what is not kept, and make up for it: inputs, and as well their gradient."""
        return array * kept * (1 / (1 - self._dropout.rate))
