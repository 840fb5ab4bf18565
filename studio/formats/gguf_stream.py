"""Writes a GGUF file whose tensors are made piece by piece, in any order: all sizes are known before.

The file takes its place once every piece is on the disk and reads back the same.
"""

from __future__ import annotations

import math
import struct
import zlib
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import Progress
from studio.errors import FormatError, SaveError
from studio.formats.atomic import flush_to_disk, replacing
from studio.formats.disk_space import require_space
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.gguf_header import DEFAULT_ALIGNMENT, GgufTensor, read_header

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from io import BufferedRandom
    from pathlib import Path

    from studio.contracts import Work

VERSION = 3


@dataclass(frozen=True)
class TensorSlot:
    """Room for one tensor: its NumPy shape and the name of its storage type."""

    shape: tuple[int, ...]
    type_name: str

    @property
    def row_bytes(self) -> int:
        """The size of a row in bytes."""
        return GGML_TYPES_BY_NAME[self.type_name].row_bytes(self.shape[-1])

    @property
    def rows(self) -> int:
        """How many rows there are, all outer dimensions taken together."""
        return math.prod(self.shape[:-1])

    @property
    def nbytes(self) -> int:
        """The size in bytes."""
        return self.rows * self.row_bytes


class GgufStream:
    """A file being written: header and room for all tensors are there, and pieces are put into it."""

    def __init__(
        self,
        path: Path,
        temporary: Path,
        file: BufferedRandom,
        tensors: Mapping[str, GgufTensor],
        header: bytes,
    ) -> None:
        self._path = path
        self._temporary = temporary
        self._file = file
        self._tensors = tensors
        self._wanted = len(header) + sum(tensor.info.nbytes for tensor in tensors.values())
        self._pieces = {(0, len(header)): zlib.crc32(header)}  # (offset, size): checksum

    def put(self, name: str, first_row: int, data: np.ndarray[Any, Any]) -> None:
        """Write the bytes of some rows of a tensor, contiguous, from a row on."""
        tensor = self._tensors[name]
        row_bytes = tensor.info.nbytes // math.prod(tensor.info.shape[:-1])
        flat = data.reshape(-1).view(np.uint8).data
        start = first_row * row_bytes
        if not 0 <= start <= start + len(flat) <= tensor.info.nbytes:
            raise ValueError(f"{len(flat)} bytes from row {first_row} on are no part of {name}")
        self._pieces[tensor.offset + start, len(flat)] = zlib.crc32(flat)
        self._file.seek(tensor.offset + start)
        self._file.write(flat)

    def verify(self) -> Work:
        """Wait until all is on the disk, read it back and compare; `SaveError` where it differs."""
        if sum(size for _, size in self._pieces) != self._wanted:
            raise ValueError("some tensors are not whole")
        self._file.flush()
        yield Progress(0, len(self._pieces), "Waiting for the disk")
        flush_to_disk(self._temporary)
        for done, ((offset, size), checksum) in enumerate(sorted(self._pieces.items())):
            if done % 64 == 0:
                yield Progress(done, len(self._pieces), "Verifying")
            self._file.seek(offset)
            if zlib.crc32(self._file.read(size)) != checksum:
                raise not_as_written(self._path)


@contextmanager
def streaming_gguf(
    path: Path,
    values: Mapping[str, bytes],
    slots: Mapping[str, TensorSlot],
    alignment: int = DEFAULT_ALIGNMENT,
    protected: Iterable[Path] = (),
) -> Iterator[GgufStream]:
    """Begin a GGUF file; put all pieces and run `GgufStream.verify` inside the block.

    Parameters
    ----------
    path
        The target.
    values
        All metadata by key in the order of the file, each as stored: its type and its bytes.
    slots
        The tensors by name, in the order of the file.
    alignment
        Every tensor starts at a multiple of it; another than 32 is among the metadata.
    protected
        Files in use, which the target must not be.

    Raises
    ------
    SaveError
        The disk lacks the room, or refuses. What stood at the target is unchanged,
        as it is however else the block ends early.
    """
    header = header_bytes(values, slots, alignment)
    size = len(header) + sum(_aligned(slot.nbytes, alignment) for slot in slots.values())
    require_space(path, size)
    with replacing(path, protected) as temporary, temporary.open("r+b") as file:
        file.write(header)
        file.truncate(size)
        file.flush()
        yield GgufStream(path, temporary, file, _checked_index(path, temporary, slots), header)


def header_bytes(values: Mapping[str, bytes], slots: Mapping[str, TensorSlot], alignment: int) -> bytes:
    """Return everything before the tensors, with the padding after it.

    https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
    """
    parts = [b"GGUF", struct.pack("<IQQ", VERSION, len(slots), len(values))]
    for key, value in values.items():
        parts += [_text(key), value]
    offset = 0
    for name, slot in slots.items():
        sizes = slot.shape[::-1]  # ggml's order, the fastest first
        number = GGML_TYPES_BY_NAME[slot.type_name].number
        parts += [
            _text(name),
            struct.pack(f"<I{len(sizes)}Q", len(sizes), *sizes),
            struct.pack("<IQ", number, offset),
        ]
        offset += _aligned(slot.nbytes, alignment)
    head = b"".join(parts)
    return head.ljust(_aligned(len(head), alignment), b"\0")


def _text(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def _aligned(size: int, alignment: int) -> int:
    return -(-size // alignment) * alignment


def _checked_index(path: Path, temporary: Path, slots: Mapping[str, TensorSlot]) -> dict[str, GgufTensor]:
    """Read back what was written before the tensors, and return the tensor index."""
    try:
        header = read_header(temporary)
    except FormatError as error:
        raise not_as_written(path, error.where, f": {error.message}") from error
    if list(header.tensors) != list(slots):
        raise not_as_written(path)
    for name, slot in slots.items():
        info = header.tensors[name].info
        if (info.shape, info.type_name) != (slot.shape, slot.type_name):
            raise not_as_written(path, name)
    return header.tensors


def not_as_written(path: Path, where: str | None = None, detail: str = "") -> SaveError:
    """Say that a disk gives back something else than it was given."""
    return SaveError(
        f"what was written reads back differently{detail}",
        path=path,
        where=where,
        remedy="Save again, to another disk if it happens twice",
    )
