"""How merged rows become stored bytes: which type, on which grid, rounded how."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.contracts import never
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.grids import FINER, LAYOUTS, grid_of, refined
from studio.formats.quantise import Bytes, quantise
from studio.lora.rounding import compensated_codes, nearest_codes, unbiased_codes

if TYPE_CHECKING:
    from studio.contracts import Cancelled, FloatArray
    from studio.lora.kept_delta import Sums
    from studio.lora.rounding import Feedback

GridChoice: TypeAlias = Literal["old", "finer", "new"]
"""The base's own grid, the one with half its steps, or one fitted to the merged weights."""

RoundingChoice: TypeAlias = Literal["nearest", "unbiased", "calibrated"]


@dataclass(frozen=True)
class Storage:
    """How one tensor is stored.

    Attributes
    ----------
    type_name
        The storage type.
    grid
        Which grid its values lie on.
    rounding
        How they get there.
    """

    type_name: str
    grid: GridChoice = "new"
    rounding: RoundingChoice = "nearest"


def storage_for(base_type: str, type_name: str, rounding: RoundingChoice) -> Storage:
    """Choose the grid: the old one where the type stays, half its steps in the next finer type, or a new one.

    The old grids hold the base to the bit, so what is rounded is the delta alone. A new grid is fitted to
    the merged weights, none of which lie on it, so nothing is lost there by rounding to the nearest: unbiased
    rounding is for grids that the base lies on.
    """
    if type_name not in LAYOUTS or rounding == "nearest":
        return Storage(type_name)
    if type_name == base_type:
        return Storage(type_name, "old", rounding)
    if base_type in FINER and FINER[base_type][0] == type_name:
        return Storage(type_name, "finer", rounding)
    return Storage(type_name, "new", "calibrated" if rounding == "calibrated" else "nearest")


@dataclass(frozen=True)
class Calibration:
    """What calibrated rounding knows of a module.

    Attributes
    ----------
    feedback
        How errors are made up for.
    gain
        What the delta is multiplied by on a grid that the base lies on.
    sums
        What is kept of the delta, as the outputs show it.
    """

    feedback: Feedback
    gain: float
    sums: Sums


def store(
    base: FloatArray,
    delta: FloatArray | None,
    stored: Bytes,
    base_type: str,
    storage: Storage,
    *,
    random: np.random.Generator,
    importance: FloatArray | None = None,
    calibration: Calibration | None = None,
    cancelled: Cancelled = never,
) -> Bytes:
    """Store merged rows.

    Parameters
    ----------
    base
        Rows of the base, float32 ``[rows, width]``.
    delta
        What is added to them, of the same shape; None adds nothing.
    stored, base_type
        The rows as the base stores them, ``[rows, bytes a row]``, and their type.
    storage
        How to store the sum, which must be finite.
    random
        For rounding that is random.
    importance
        float32 ``[width]`` of an importance matrix, for new grids.
    calibration
        What calibrated rounding needs; without it that is unbiased.
    cancelled
        Asked now and then by what takes long.
    """
    type_name, rounding = storage.type_name, storage.rounding
    merged = base if delta is None else base + delta
    start = start_of(stored, base_type, storage)
    if start is None:
        start = quantise(merged, type_name, importance)
        if rounding == "nearest" or (rounding == "calibrated" and calibration is None):
            return start
    grid = grid_of(start, type_name)
    if rounding == "calibrated" and calibration is not None:
        if storage.grid != "new" and delta is not None:
            merged = base + np.float32(calibration.gain) * delta
        codes = compensated_codes(merged, grid, calibration.feedback, cancelled)
    elif rounding == "nearest":
        codes = nearest_codes(merged, grid)
    else:
        codes = unbiased_codes(merged, grid, random)
    return grid.encode(codes)


def start_of(stored: Bytes, base_type: str, storage: Storage) -> Bytes | None:
    """Return the base's rows on the grid that a storage takes from the base; None where it has a new one."""
    if storage.grid == "old":
        return stored
    finer = refined(stored, base_type) if storage.grid == "finer" else None
    return None if finer is None else finer[1]


def values_of(stored: Bytes, type_name: str) -> FloatArray:
    """Return stored rows as float32."""
    return dequantise(stored, GGML_TYPES_BY_NAME[type_name].number)
