"""How much of the wanted delta a module of a merged file keeps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.lora.small_products import inner, product

if TYPE_CHECKING:
    from studio.contracts import FloatArray


@dataclass(frozen=True)
class Sums:
    """What is summed up over the weights of a module, with d the delta in the file and d* the wanted one.

    Attributes
    ----------
    product, wanted, error
        <d, d*>, ||d*||^2 and ||d - d*||^2.
    """

    product: float = 0.0
    wanted: float = 0.0
    error: float = 0.0

    @classmethod
    def of(cls, delta: FloatArray, wanted: FloatArray, moment: FloatArray | None = None) -> Sums:
        """Compare two deltas ``[rows, in]``; with the inputs' second moment ``[in, in]``, their outputs."""
        error = delta - wanted
        if moment is None:
            seen, off = wanted, error
        else:
            seen, off = product(wanted, moment), product(error, moment)
        return cls(inner(delta, seen), inner(wanted, seen), inner(error, off))

    def __add__(self, other: Sums) -> Sums:
        """Take two runs of rows together."""
        return Sums(self.product + other.product, self.wanted + other.wanted, self.error + other.error)


@dataclass(frozen=True)
class KeptDelta:
    """How much of the wanted delta d* is in a module of the merged file, where d is found.

    Attributes
    ----------
    module
        The GGUF weight name.
    type_name
        The type it is stored in.
    kept
        <d, d*> / ||d*||^2: 1 where all of it is there, 0 where nothing is.
    error
        ||d - d*|| / ||d*||: what rounding lost and what it added.
    as_heard
        Whether both are of what the deltas add to the outputs on the inputs of the calibration, measured
        on a sample of rows, rather than of the weights.
    """

    module: str
    type_name: str
    kept: float
    error: float
    as_heard: bool = False

    @classmethod
    def of(cls, module: str, type_name: str, sums: Sums, *, as_heard: bool = False) -> KeptDelta:
        """Take the sums of a module."""
        if not sums.wanted:
            return cls(module, type_name, 1.0, 0.0, as_heard)
        error = math.sqrt(max(sums.error, 0.0) / sums.wanted)
        return cls(module, type_name, sums.product / sums.wanted, error, as_heard)
