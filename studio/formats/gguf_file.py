"""An opened GGUF model: satisfies `BaseModel` and reads tensors on request."""

from __future__ import annotations

import math
import mmap
import os
import threading
import weakref
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from studio.errors import FormatError, UnsupportedError
from studio.formats.dequantise import dequantise_into
from studio.formats.files import FileIdentity, open_regular_file
from studio.formats.ggml_types import GGML_TYPES
from studio.formats.gguf_header import GgufHeader, GgufTensor, parse_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO
    from pathlib import Path

    from studio.contracts import FloatArray, MetadataValue, TensorInfo


CHUNK_BYTES = 4 << 20
"""How much of a tensor is read at once to be dequantised: it fits a cache, and memory stays bounded."""


class GgufFile:
    """A GGUF file whose header was read and checked. Any thread may read its tensors.

    They are read, not mapped: a program that cuts a mapped file kills every other that looks into it.
    """

    def __init__(self, path: Path, file: FileIO, header: GgufHeader) -> None:
        self.path = path
        self.header = header
        self.metadata: Mapping[str, MetadataValue] = MappingProxyType(header.metadata)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: tensor.info for name, tensor in header.tensors.items()}
        )
        self._file = file
        self._location = path.absolute()  # the working folder may change
        self._identity = FileIdentity.of(os.fstat(file.fileno()))
        self._lock = threading.Lock()  # one file position, several threads
        weakref.finalize(self, file.close)  # a model that nobody holds lets go of its file

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a GGUF file and read its header.

        Raises
        ------
        FormatError
            As `read_header` does, and when the file does not name its architecture.
        """
        opened = cls.open_part(path)
        try:
            opened.check_architecture()
        except FormatError:
            opened.close()
            raise
        return opened

    @classmethod
    def open_part(cls, path: Path) -> Self:
        """Open what may be one of a model's several files: it need not name the architecture."""
        file = open_regular_file(path)
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = parse_header(data, path)
            return cls(path, file, header)
        except BaseException:
            file.close()
            raise

    def check_architecture(self) -> None:
        """Raise `FormatError` when the file does not name its architecture."""
        if not isinstance(self.metadata.get("general.architecture"), str):
            raise FormatError(
                "the file does not say which architecture the model has",
                path=self.path,
                where="general.architecture",
                remedy="Convert the model again",
            )

    @property
    def files(self) -> tuple[Path, ...]:
        """The file alone."""
        return (self.path,)

    @property
    def name(self) -> str:
        """``general.name``, or the file's stem."""
        name = self.metadata.get("general.name")
        return name if isinstance(name, str) and name.strip() else self.path.stem

    @property
    def architecture(self) -> str:
        """The value of ``general.architecture``."""
        return str(self.metadata["general.architecture"])

    @property
    def file_type(self) -> str:
        """The storage type that takes the most bytes; empty for a file without tensors."""
        return most_stored_type(self.tensors)

    @property
    def file_size(self) -> int:
        """Size of the file in bytes, when it was opened."""
        return self._identity.size

    def raw(self, name: str) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return one tensor as stored: uint8 in its NumPy shape, the last dimension in bytes a row.

        Raises
        ------
        FormatError
            The file has no such tensor, or is no longer what it was when it was opened.
        """
        tensor = self._tensor(name)
        *outer, width = tensor.info.shape
        data = np.empty((*outer, GGML_TYPES[tensor.ggml_type].row_bytes(width)), np.uint8)
        self._read(tensor.offset, data, name)
        return data

    def raw_rows(self, name: str, rows: slice) -> np.ndarray[Any, np.dtype[np.uint8]]:
        """Return some rows of one tensor as stored, ``[rows, bytes a row]``.

        Parameters
        ----------
        rows
            A run of rows, with all outer dimensions taken as one.

        Raises
        ------
        FormatError
            As `raw` does.
        """
        tensor = self._tensor(name)
        *outer, width = tensor.info.shape
        first, stop, _ = rows.indices(math.prod(outer))
        data = np.empty((stop - first, GGML_TYPES[tensor.ggml_type].row_bytes(width)), np.uint8)
        self._read(tensor.offset + first * data.shape[1], data, name)
        return data

    def raw_metadata(self, key: str) -> bytes:
        """Return a metadata value as stored: its type, and its bytes.

        Raises
        ------
        FormatError
            The file is no longer what it was when it was opened.
        """
        start, stop = self.header.spans[key]
        data = np.empty(stop - start, np.uint8)
        self._read(start, data, key)
        return data.tobytes()

    def dense(self, name: str) -> FloatArray:
        """Return one tensor as float32 in its NumPy shape.

        Raises
        ------
        FormatError
            As `raw` does.
        UnsupportedError
            The tensor's type cannot be dequantised.
        """
        tensor = self._tensor(name)
        values = np.empty(tensor.info.shape, np.float32)
        rows = values.reshape(-1, values.shape[-1])
        row_bytes = GGML_TYPES[tensor.ggml_type].row_bytes(values.shape[-1])
        at_once = max(1, CHUNK_BYTES // row_bytes)
        buffer = np.empty((min(at_once, len(rows)), row_bytes), np.uint8)
        for start in range(0, len(rows), at_once):
            part = rows[start : start + at_once]
            self._read(tensor.offset + start * row_bytes, buffer[: len(part)], name)
            try:
                dequantise_into(buffer[: len(part)], tensor.ggml_type, part)
            except UnsupportedError as error:
                raise UnsupportedError(
                    error.message, path=self.path, where=name, remedy=error.remedy
                ) from None
        return values

    def close(self) -> None:
        """Let go of the file; metadata and index stay."""
        with self._lock:
            self._file.close()

    def _tensor(self, name: str) -> GgufTensor:
        tensor = self.header.tensors.get(name)
        if tensor is None:
            raise FormatError(
                "the file has no such tensor", path=self.path, where=name, remedy="Use a complete model"
            )
        return tensor

    def _read(self, offset: int, target: np.ndarray[Any, np.dtype[np.uint8]], name: str) -> None:
        """Fill `target` with the bytes from `offset` on."""
        rest = target.reshape(-1).data
        with self._lock:
            try:
                self._file.seek(offset)
                while rest and (count := self._file.readinto(rest)):
                    rest = rest[count:]
                # Compared after the reading, so that a change during it is seen as well.
                same = self._identity == FileIdentity.of(os.fstat(self._file.fileno()))
                same = same and self._identity == FileIdentity.of(os.stat(self._location))
            except (OSError, ValueError) as error:  # ValueError: it was closed
                raise self._changed(name, str(error)) from None
        if rest or not same:
            raise self._changed(name, "it was replaced, moved or written to")

    def _changed(self, name: str, reason: str) -> FormatError:
        return FormatError(
            f"the file is no longer what it was when it was opened: {reason}",
            path=self.path,
            where=name,
            remedy="Open the model again",
        )


def most_stored_type(tensors: Mapping[str, TensorInfo]) -> str:
    """Return the storage type that takes the most bytes; empty without tensors."""
    sizes: Counter[str] = Counter()
    for info in tensors.values():
        sizes[info.type_name] += info.nbytes
    return max(sizes, key=lambda name: sizes[name], default="")
