"""What the rooms share of base models, and the array type of all of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

FloatArray: TypeAlias = np.ndarray[Any, np.dtype[np.float32]]
"""A NumPy array of float32; comments give its shape."""

MetadataValue: TypeAlias = "bool | int | float | str | list[Any] | np.ndarray[Any, Any]"
"""A metadata value of a model file. Arrays of numbers are NumPy arrays, arrays of text are lists."""


@dataclass(frozen=True)
class TensorInfo:
    """What a model file says of one tensor, known without reading its bytes.

    Attributes
    ----------
    name
        The GGUF name, such as ``blk.0.attn_q.weight``.
    shape
        In NumPy order: ``(out, in)`` for a linear weight, ``(E, out, in)`` for one of E experts.
    type_name
        The storage type, such as ``F16`` or ``Q4_1``.
    nbytes
        Size in the file, in bytes.
    """

    name: str
    shape: tuple[int, ...]
    type_name: str
    nbytes: int


@runtime_checkable
class BaseModel(Protocol):
    """An opened base model: its metadata, its tensor index, and its tensors on request."""

    @property
    def path(self) -> Path:
        """The file it was opened from; the first one where there are several."""

    @property
    def files(self) -> Sequence[Path]:
        """All files that it lies in, which nothing may overwrite while it is open."""

    @property
    def name(self) -> str:
        """A name to show: ``general.name``, or the file's stem."""

    @property
    def architecture(self) -> str:
        """The value of ``general.architecture``, such as ``llama``."""

    @property
    def file_type(self) -> str:
        """The storage type most of its weights have, such as ``Q4_1``."""

    @property
    def file_size(self) -> int:
        """Size of its files in bytes."""

    @property
    def metadata(self) -> Mapping[str, MetadataValue]:
        """All metadata, by key."""

    @property
    def tensors(self) -> Mapping[str, TensorInfo]:
        """The tensor index, in file order, by name."""

    def dense(self, name: str) -> FloatArray:
        """Return one tensor as float32 in its NumPy shape. Raises `FormatError` if it has no such tensor."""

    def close(self) -> None:
        """Let go of the files."""


@runtime_checkable
class RawTensors(Protocol):
    """What a `BaseModel` may offer besides: its tensors as they are stored, so that they can stay small."""

    def raw(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return one tensor as stored: uint8 in its NumPy shape, the last dimension in bytes a row."""


class CompactTensor(Protocol):
    """A matrix in a storage of its base's own, turned into float32 as it is needed."""

    @property
    def nbytes(self) -> int:
        """Size in memory."""

    def rows(self, rows: slice) -> FloatArray:
        """Return a run of rows as float32 ``[rows, in]``."""


@runtime_checkable
class CompactTensors(Protocol):
    """What a `BaseModel` may offer besides: tensors in storages of its own, so that they can stay small."""

    def compact(self, name: str) -> Sequence[CompactTensor]:
        """Return one tensor, or the part of each expert of one; nothing where it is stored otherwise."""


@runtime_checkable
class RawModel(RawTensors, Protocol):
    """What a `BaseModel` may offer besides: itself as it is stored, so that a changed copy can be written."""

    def raw_rows(self, name: str, rows: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return a run of rows as stored, ``[rows, bytes a row]``, all outer dimensions taken as one."""

    def raw_metadata(self, key: str) -> bytes:
        """Return a metadata value as a GGUF file stores it: its type, and its bytes."""
