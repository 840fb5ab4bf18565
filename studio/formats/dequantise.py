"""Turns the stored bytes of a tensor into float32, whatever type ggml stores it in."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import libgguf
import ml_dtypes
import numpy as np

from studio.errors import UnsupportedError
from studio.formats.ggml_types import GGML_TYPES

if TYPE_CHECKING:
    from studio.contracts import FloatArray

PLAIN_DTYPES: dict[str, np.dtype[Any]] = {
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F64": np.dtype("<f8"),
    "I8": np.dtype("<i1"),
    "I16": np.dtype("<i2"),
    "I32": np.dtype("<i4"),
    "I64": np.dtype("<i8"),
}
"""Types that store one value after the other."""


def dequantise(
    data: np.ndarray[Any, np.dtype[np.uint8]], ggml_type: int, shape: tuple[int, ...]
) -> FloatArray:
    """Return stored bytes as float32.

    Parameters
    ----------
    data
        The bytes of whole rows, contiguous, of any shape.
    ggml_type
        The number of the storage type.
    shape
        The shape of the result; its last dimension is the width of a row.

    Raises
    ------
    UnsupportedError
        The type is one that no file should hold weights in (Q8_1, Q8_K).
    """
    kind = GGML_TYPES[ggml_type]
    dtype = PLAIN_DTYPES.get(kind.name)
    if dtype is not None:
        return data.reshape(-1).view(dtype).reshape(shape).astype(np.float32)
    rows, width = math.prod(shape[:-1]), shape[-1]
    if data.nbytes != rows * kind.row_bytes(width):
        raise ValueError(f"{data.nbytes} bytes do not hold {rows} rows of {width} {kind.name} values")
    values = np.empty(shape, np.float32)
    try:
        libgguf.dequantize_rows_into_raw(ggml_type, data, values, rows, width)
    except ValueError:
        raise UnsupportedError(f"tensors of type {kind.name} cannot be turned into numbers") from None
    return values
