"""Turns float32 rows into the stored bytes of any tensor type that ggml writes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import libgguf
import numpy as np

from studio.formats.dequantise import PLAIN_DTYPES
from studio.formats.ggml_types import GGML_TYPES_BY_NAME

if TYPE_CHECKING:
    from studio.contracts import FloatArray

Bytes = np.ndarray[Any, np.dtype[np.uint8]]
"""Stored rows: uint8 ``[rows, bytes a row]``."""

FLOAT_TYPES = frozenset({"F32", "F16", "BF16"})
"""The types that have no grid of their own: they round a number and no more."""

_prepared: set[str] = set()
_preparing = threading.Lock()

LARGEST_F16 = float(np.finfo(np.float16).max)


def quantise(rows: FloatArray, type_name: str, importance: FloatArray | None = None) -> Bytes:
    """Store rows in a type, each number rounded to the nearest that the type has.

    Block types are written by libgguf, to the bytes that llama-quantize writes.

    Parameters
    ----------
    rows
        float32 ``[rows, width]``, finite (see `unstorable`); the width is a whole number of blocks.
    type_name
        The type, such as ``Q4_K``.
    importance
        float32 ``[width]``: how much the error of each column counts, from an importance matrix. The types
        that cannot do without are given the columns' own mean squares.

    Returns
    -------
    Bytes
        uint8 ``[rows, bytes a row]``.
    """
    dtype = PLAIN_DTYPES.get(type_name)
    if dtype is not None:
        stored = rows.astype(dtype, copy=False)
        return np.ascontiguousarray(stored).view(np.uint8).reshape(len(rows), -1)
    number = GGML_TYPES_BY_NAME[type_name].number
    _prepare(type_name)
    return np.asarray(libgguf.quantize_rows(np.ascontiguousarray(rows), number, importance))


def _prepare(type_name: str) -> None:
    """Let libgguf make a type's tables on one thread: two at once would end the program."""
    with _preparing:
        if type_name not in _prepared:
            kind = GGML_TYPES_BY_NAME[type_name]
            libgguf.quantize_rows(np.ones((1, kind.block_size), np.float32), kind.number)
            _prepared.add(type_name)


def can_quantise(type_name: str, width: int) -> bool:
    """Say whether rows of this width can be stored in a type."""
    kind = GGML_TYPES_BY_NAME.get(type_name)
    if kind is None or width % kind.block_size:
        return False
    return type_name in FLOAT_TYPES or bool(libgguf.row_size(kind.number, width))


def unstorable(rows: FloatArray, type_name: str) -> str | None:
    """Say why rows cannot be stored in a type, or None: a NaN would spoil a whole block without an error."""
    largest = float(np.max(np.abs(rows), initial=0.0))  # NaN wins every comparison of NumPy's
    if not np.isfinite(largest):
        return f"{int(np.count_nonzero(~np.isfinite(rows))):,} values are not finite"
    if type_name == "F16" and largest >= 65520:  # from here on numbers round to infinity
        return f"{int(np.count_nonzero(np.abs(rows) >= 65520)):,} values are too large for F16"
    if type_name not in FLOAT_TYPES and largest > LARGEST_F16:  # a block's scale is an F16
        return f"{int(np.count_nonzero(np.abs(rows) > LARGEST_F16)):,} values are too large for {type_name}"
    return None
