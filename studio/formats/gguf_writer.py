"""Writes GGUF files through the `gguf` package: atomic, streamed tensor by tensor, and verified by re-reading."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

from studio.contracts import MetadataValue, Progress
from studio.errors import FormatError, SaveError
from studio.formats.atomic import replacing
from studio.formats.gguf_header import MAX_NAME_BYTES, read_header
from studio.formats.gguf_values import NUMBER_DTYPES, ValueType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from studio.contracts import Work

FloatType: TypeAlias = Literal["F32", "F16"]
"""The types that tensors can be written in."""

MetadataToWrite: TypeAlias = "MetadataValue | np.generic"
"""A value to write: see `write_gguf`."""


def write_gguf(
    path: Path,
    metadata: Mapping[str, MetadataToWrite],
    tensors: Mapping[str, np.ndarray[Any, Any]],
    *,
    tensor_type: FloatType = "F32",
    protected: Iterable[Path] = (),
) -> None:
    """Write a GGUF file atomically and verify it.

    Parameters
    ----------
    path
        The target.
    metadata
        All keys in order, ``general.architecture`` among them. Plain Python values are written as BOOL, UINT32,
        FLOAT32, STRING and array of STRING. Any other type is said by NumPy: ``np.uint64(1)``, or an array.
    tensors
        Arrays of floating numbers by name, in NumPy shapes.
    tensor_type
        The type they are stored in.
    protected
        Files in use, which the target must not be.

    Raises
    ------
    SaveError
        A value cannot be stored, a weight is not finite or overflows float16, or the disk refuses. What stood at
        the target is unchanged.
    """
    for _ in write_gguf_in_steps(path, metadata, tensors, tensor_type=tensor_type, protected=protected):
        pass


def write_gguf_in_steps(
    path: Path,
    metadata: Mapping[str, MetadataToWrite],
    tensors: Mapping[str, np.ndarray[Any, Any]],
    *,
    tensor_type: FloatType = "F32",
    protected: Iterable[Path] = (),
) -> Work:
    """Do what `write_gguf` does as work that yields after each tensor. Closing it leaves the target as it was."""
    raise NotImplementedError
    yield Progress(0, 0)
