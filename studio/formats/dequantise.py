"""Turns the stored bytes of a tensor into float32, whatever type ggml stores it in."""

from __future__ import annotations

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
"""The types that store one value after the other; all others store blocks with scales."""


def dequantise(data: np.ndarray[Any, np.dtype[np.uint8]], ggml_type: int) -> FloatArray:
    """Return stored rows as float32.

    Parameters
    ----------
    data
        uint8 ``[..., bytes a row]``, contiguous, as `GgufFile.raw` returns it.
    ggml_type
        The number of the storage type.

    Returns
    -------
    FloatArray
        float32 ``[..., width]``.

    Raises
    ------
    UnsupportedError
        The type is one that files do not hold weights in, such as Q8_1.
    """
    kind = GGML_TYPES[ggml_type]
    values = np.empty((*data.shape[:-1], kind.row_width(data.shape[-1])), np.float32)
    dequantise_into(data, ggml_type, values)
    return values


def dequantise_into(data: np.ndarray[Any, np.dtype[np.uint8]], ggml_type: int, values: FloatArray) -> None:
    """Write stored rows as float32 into an array that fits: see `dequantise`."""
    kind = GGML_TYPES[ggml_type]
    width = values.shape[-1]
    if data.shape != (*values.shape[:-1], kind.row_bytes(width)):
        raise ValueError(f"bytes of shape {data.shape} do not hold {values.shape} values of type {kind.name}")
    dtype = PLAIN_DTYPES.get(kind.name)
    if dtype is not None:
        with np.errstate(
            over="ignore"
        ):  # F64 beyond float32 becomes infinite; whoever reads weights checks that
            values[...] = data.view(dtype)
        return
    try:
        libgguf.dequantize_rows_into_raw(ggml_type, data, values, values.size // width, width)
    except ValueError:
        raise UnsupportedError(
            f"tensors of type {kind.name} cannot be turned into numbers",
            remedy="Convert the model to a type such as Q8_0 or F16",
        ) from None
