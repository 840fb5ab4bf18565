"""An opened GGUF model: satisfies `BaseModel` and reads tensors on request."""

from __future__ import annotations

import mmap
import os
import threading
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from studio.errors import FormatError, UnsupportedError
from studio.formats.dequantise import dequantise
from studio.formats.files import FileIdentity, open_regular_file
from studio.formats.ggml_types import GGML_TYPES
from studio.formats.gguf_header import GgufHeader, GgufTensor, parse_header

if TYPE_CHECKING:
    from collections.abc import Mapping
    from io import FileIO
    from pathlib import Path

    from studio.contracts import FloatArray, MetadataValue, TensorInfo


class GgufFile:
    """A GGUF file whose header was read and checked. Any thread may read tensors.

    Tensors are read with plain reads: were they mapped, another program that cuts the file would kill this one.
    """

    def __init__(self, path: Path, file: FileIO, header: GgufHeader) -> None:
        self.path = path
        self.header = header
        self.metadata: Mapping[str, MetadataValue] = MappingProxyType(header.metadata)
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {name: tensor.info for name, tensor in header.tensors.items()}
        )
        self._file = file
        self._identity = FileIdentity.of(os.fstat(file.fileno()))
        self._lock = threading.Lock()  # one file position, several threads

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a GGUF file and read its header.

        Raises
        ------
        FormatError
            As `read_header` does, and when the file does not name its architecture.
        """
        file = open_regular_file(path)
        try:
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
                header = parse_header(data, path)
            if not isinstance(header.metadata.get("general.architecture"), str):
                raise FormatError(
                    "the file does not say which architecture the model has",
                    path=path,
                    where="general.architecture",
                    remedy="Convert the model again",
                )
            return cls(path, file, header)
        except BaseException:
            file.close()
            raise

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
        sizes: Counter[str] = Counter()
        for info in self.tensors.values():
            sizes[info.type_name] += info.nbytes
        return max(sizes, key=lambda name: sizes[name], default="")

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
        data = np.empty(tensor.info.nbytes, np.uint8)
        self._read(tensor.offset, memoryview(data), name)
        row_bytes = GGML_TYPES[tensor.ggml_type].row_bytes(tensor.info.shape[-1])
        return data.reshape(*tensor.info.shape[:-1], row_bytes)

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
        try:
            return dequantise(self.raw(name), tensor.ggml_type, tensor.info.shape)
        except UnsupportedError as error:
            raise UnsupportedError(
                error.message, path=self.path, where=name, remedy="Convert the model to another type"
            ) from None

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

    def _read(self, offset: int, target: memoryview, name: str) -> None:
        """Fill `target` with the bytes from `offset` on. The identity is checked afterwards, so that no change slips by."""
        with self._lock:
            try:
                self._file.seek(offset)
                done = 0
                while done < len(target):
                    count = self._file.readinto(target[done:])
                    if not count:
                        break
                    done += count
                same = (
                    FileIdentity.of(os.fstat(self._file.fileno()))
                    == FileIdentity.of(os.stat(self.path))
                    == self._identity
                )
            except (OSError, ValueError) as error:  # ValueError: the file was closed
                raise self._gone(name, str(error)) from None
        if done < len(target) or not same:
            raise self._gone(name, "it was replaced, moved or changed")

    def _gone(self, name: str, reason: str) -> FormatError:
        return FormatError(
            f"the file is no longer what it was when it was opened: {reason}",
            path=self.path,
            where=name,
            remedy="Open the model again",
        )
