"""Reads the container ggla: header, then tensor after tensor, each claim checked against the file's size.

u32 magic, u32 version 1, i32 r, i32 alpha; of each tensor i32 dimensions, i32 length of the name, i32 type,
the sizes fastest first, the name, and from the next multiple of 32 bytes on the values.
https://github.com/ggerganov/llama.cpp/blob/b2800/convert-lora-to-ggml.py
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from studio.api import FormatError, UnsupportedError

if TYPE_CHECKING:
    from pathlib import Path

    from studio.api import FloatArray

MAGIC = struct.pack("<I", 0x67676C61)
VERSION = 1
ALIGNMENT = 32
MAX_TENSORS = 1 << 15
MAX_NAME_BYTES = 256
TYPES: dict[int, np.dtype[Any]] = {0: np.dtype("<f4"), 1: np.dtype("<f2")}

DAMAGED = "The file is damaged or was cut short; copy it again"


@dataclass(frozen=True)
class GglaFile:
    """What a file holds: its rank, its alpha, and its tensors by name in their NumPy shapes."""

    rank: int
    alpha: int
    tensors: dict[str, FloatArray]


def read_ggla(path: Path) -> GglaFile:
    """Read a file.

    Raises
    ------
    FormatError
        It is damaged.
    UnsupportedError
        It is of another version, or holds another type of tensor.
    """
    if not path.is_file():
        raise FormatError("this is not a file", path=path, remedy="Choose a file")
    size = path.stat().st_size
    with path.open("rb") as file:
        magic, version, rank, alpha = struct.unpack("<4sIii", _read(file, 16, path, "header"))
        if magic != MAGIC:
            raise FormatError("this is not a ggla file", path=path, remedy="Choose another file")
        if version != VERSION:
            raise UnsupportedError(
                f"the file is of version {version}, not {VERSION}",
                path=path,
                remedy="Convert the original adapter",
            )
        tensors: dict[str, FloatArray] = {}
        while file.tell() < size:
            if len(tensors) == MAX_TENSORS:
                raise FormatError(f"there are more than {MAX_TENSORS} tensors", path=path, remedy=DAMAGED)
            name, values = _read_tensor(file, size, path)
            if name in tensors:
                raise FormatError("the tensor stands there twice", path=path, where=name, remedy=DAMAGED)
            tensors[name] = values
    return GglaFile(rank, alpha, tensors)


def _read_tensor(file: BinaryIO, size: int, path: Path) -> tuple[str, FloatArray]:
    place = f"byte {file.tell()}"
    dimensions, length, kind = struct.unpack("<iii", _read(file, 12, path, place))
    if dimensions not in (1, 2):
        raise FormatError(f"a tensor of {dimensions} dimensions", path=path, where=place, remedy=DAMAGED)
    if not 0 < length <= MAX_NAME_BYTES:
        raise FormatError(f"a name of {length} bytes", path=path, where=place, remedy=DAMAGED)
    sizes = struct.unpack(f"<{dimensions}i", _read(file, 4 * dimensions, path, place))
    try:
        name = _read(file, length, path, place).decode("utf-8")
    except UnicodeDecodeError:
        raise FormatError("a name is not valid UTF-8", path=path, where=place, remedy=DAMAGED) from None
    dtype = TYPES.get(kind)
    if dtype is None:
        raise UnsupportedError(
            f"the tensor is of type {kind}, not F32 or F16",
            path=path,
            where=name,
            remedy="Convert the original adapter",
        )
    file.seek(-file.tell() % ALIGNMENT, 1)
    count = 1
    for one in sizes:
        count *= one  # Python's integers do not overflow
    if min(sizes) < 1 or count * dtype.itemsize > size - file.tell():
        raise FormatError(
            f"the sizes {sizes} do not fit the rest of the file", path=path, where=name, remedy=DAMAGED
        )
    values = np.frombuffer(_read(file, count * dtype.itemsize, path, name), dtype)
    return name, values.astype(np.float32).reshape(sizes[::-1])


def _read(file: BinaryIO, count: int, path: Path, where: str) -> bytes:
    data = file.read(count)
    if len(data) < count:
        raise FormatError("the file ends too soon", path=path, where=where, remedy=DAMAGED)
    return data
