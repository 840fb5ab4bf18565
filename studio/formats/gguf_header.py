"""Reads the header of a GGUF file, metadata and tensor index, without touching a tensor's bytes.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.contracts import MetadataValue, TensorInfo
from studio.formats.files import open_regular_file
from studio.formats.ggml_types import GGML_TYPES
from studio.formats.gguf_values import DAMAGED, NOT_WELL_FORMED, Buffer, Cursor, ValueType

if TYPE_CHECKING:
    from pathlib import Path

DEFAULT_ALIGNMENT = 32
MAX_ALIGNMENT = 1 << 16
MAX_ENTRIES = 1 << 15  # keys, and tensors: the largest models have a few thousand
MAX_KEY_BYTES = (1 << 16) - 1
MAX_NAME_BYTES = 63  # ggml holds a name and its final zero in 64 bytes
MAX_DIMENSIONS = 4
LEGACY_MAGICS = (b"ggml", b"lmgg", b"fmgg", b"tjgg", b"algg")  # the formats before GGUF, as they lie in files


@dataclass(frozen=True)
class GgufTensor:
    """One entry of the tensor index.

    Attributes
    ----------
    info
        Name, NumPy shape, storage type and size.
    offset
        Where its bytes start, counted from the start of the file.
    ggml_type
        The number of its storage type, a key of `GGML_TYPES`.
    """

    info: TensorInfo
    offset: int
    ggml_type: int


@dataclass(frozen=True)
class GgufHeader:
    """All that a GGUF file says before its tensors.

    Attributes
    ----------
    version
        2 or 3.
    alignment
        Every tensor starts at a multiple of so many bytes after `data_offset`.
    metadata
        All values by key, in file order. Arrays of numbers are NumPy arrays, arrays of text are lists.
    tensors
        The tensor index by name, in file order.
    data_offset
        Where the tensors start, in bytes from the start of the file.
    spans
        Where each metadata value stands in the file, its type included: ``(start, stop)`` by key.
    """

    version: int
    alignment: int
    metadata: dict[str, MetadataValue]
    tensors: dict[str, GgufTensor]
    data_offset: int
    spans: dict[str, tuple[int, int]]


def read_header(path: Path) -> GgufHeader:
    """Read and check the header of a GGUF file.

    Raises
    ------
    FormatError
        The file cannot be read, is no GGUF file of version 2 or 3, is damaged, or is not well-formed.
    """
    with open_regular_file(path) as file:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return parse_header(data, path)


def parse_header(data: Buffer, path: Path) -> GgufHeader:
    """Read and check a header from the bytes of a whole file; `path` is for error messages."""
    cursor = Cursor(data, path)
    version = _read_version(cursor)
    tensor_count = _read_count(cursor, "tensors", smallest=8 + 1 + 4 + 8 + 4 + 8)
    value_count = _read_count(cursor, "metadata values", smallest=8 + 1 + 4 + 1)
    alignment, metadata, spans = _read_metadata(cursor, value_count)
    entries = [_read_tensor(cursor) for _ in range(tensor_count)]
    cursor.where = "tensor index"
    data_offset = -(-cursor.position // alignment) * alignment
    tensors: dict[str, GgufTensor] = {}
    for tensor in entries:
        name = cursor.where = tensor.info.name
        if name in tensors:
            raise cursor.error("two tensors have this name", NOT_WELL_FORMED)
        if tensor.offset % alignment:
            raise cursor.error(f"offset {tensor.offset} is no multiple of the alignment {alignment}")
        offset = data_offset + tensor.offset
        if offset + tensor.info.nbytes > len(data):
            raise cursor.error(f"its {tensor.info.nbytes:,} bytes at {offset} reach past the end of the file")
        tensors[name] = GgufTensor(tensor.info, offset, tensor.ggml_type)
    _refuse_overlaps(cursor, tensors)
    return GgufHeader(version, alignment, metadata, tensors, data_offset, spans)


def _read_version(cursor: Cursor) -> int:
    cursor.require(4, "the magic")
    magic = bytes(cursor.data[:4])
    if magic in LEGACY_MAGICS:
        raise cursor.error(
            "this is a ggml file of the time before GGUF", "Convert the original model to GGUF"
        )
    if magic != b"GGUF":
        raise cursor.error(
            "this is not a GGUF file: it does not start with the letters GGUF", "Choose another file"
        )
    cursor.position = 4
    version: int = cursor.number(ValueType.UINT32)
    if version in (2, 3):
        return version
    if version in (1 << 24, 2 << 24, 3 << 24):  # a small number with its bytes turned round
        raise cursor.error(
            "this GGUF file is big-endian", "Convert the model again on a little-endian machine"
        )
    raise cursor.error(f"GGUF version {version} is not supported, only 2 and 3", "Convert the model again")


def _read_count(cursor: Cursor, what: str, smallest: int) -> int:
    """Read how many entries follow, each of which takes `smallest` bytes or more."""
    count: int = cursor.number(ValueType.UINT64)
    if count * smallest > len(cursor.data) - cursor.position:
        raise cursor.error(f"the file is too short for the {count} {what} it announces")
    if count > MAX_ENTRIES:
        raise cursor.error(f"the file announces {count} {what}, more than {MAX_ENTRIES}", NOT_WELL_FORMED)
    return count


def _read_metadata(
    cursor: Cursor, count: int
) -> tuple[int, dict[str, MetadataValue], dict[str, tuple[int, int]]]:
    alignment = DEFAULT_ALIGNMENT
    metadata: dict[str, MetadataValue] = {}
    spans: dict[str, tuple[int, int]] = {}
    for index in range(count):
        cursor.where = f"metadata key {index}"
        key = cursor.text("a key")
        if not key:
            raise cursor.error("a key is empty", NOT_WELL_FORMED)
        if len(key.encode()) > MAX_KEY_BYTES:
            raise cursor.error(f"a key is longer than {MAX_KEY_BYTES} bytes", NOT_WELL_FORMED)
        cursor.where = key
        if key in metadata:
            raise cursor.error("the key stands in the file twice", NOT_WELL_FORMED)
        start = cursor.position
        kind = cursor.value_type()
        metadata[key] = cursor.value(kind)
        spans[key] = (start, cursor.position)
        if key == "general.alignment":
            alignment = _checked_alignment(cursor, kind, metadata[key])
    return alignment, metadata, spans


def _checked_alignment(cursor: Cursor, kind: ValueType, value: MetadataValue) -> int:
    if kind is not ValueType.UINT32 or not isinstance(value, int):
        raise cursor.error(f"the alignment is of type {kind.name} instead of UINT32", NOT_WELL_FORMED)
    if not 0 < value <= MAX_ALIGNMENT or value & (value - 1):
        raise cursor.error(f"the alignment {value} is no power of two up to {MAX_ALIGNMENT}", NOT_WELL_FORMED)
    return value


def _read_tensor(cursor: Cursor) -> GgufTensor:
    """Read one entry of the tensor index, its offset still counted from the start of the tensors."""
    cursor.where = "tensor index"
    name = cursor.text("the name of a tensor")
    if not name:
        raise cursor.error("a tensor has no name", NOT_WELL_FORMED)
    cursor.where = name if len(name) <= MAX_NAME_BYTES else f"{name[:MAX_NAME_BYTES]}…"
    if len(name.encode()) > MAX_NAME_BYTES:
        raise cursor.error(f"the name is longer than {MAX_NAME_BYTES} bytes", NOT_WELL_FORMED)
    shape = _read_shape(cursor)
    number: int = cursor.number(ValueType.UINT32)
    kind = GGML_TYPES.get(number)
    if kind is None:
        raise cursor.error(
            f"tensor type {number} is unknown", "Convert the model to a type such as Q8_0 or F16"
        )
    if shape[-1] % kind.block_size:
        raise cursor.error(
            f"its rows of {shape[-1]} values are no whole number of {kind.name} blocks of {kind.block_size}"
        )
    nbytes = math.prod(shape[:-1]) * kind.row_bytes(shape[-1])
    if nbytes > len(cursor.data):
        raise cursor.error(f"shape {shape} needs {nbytes:,} bytes, more than the whole file has")
    offset: int = cursor.number(ValueType.UINT64)
    return GgufTensor(TensorInfo(name, shape, kind.name, nbytes), offset, number)


def _read_shape(cursor: Cursor) -> tuple[int, ...]:
    """Read the dimensions, which lie in the file fastest first, and return them in NumPy order."""
    count: int = cursor.number(ValueType.UINT32)
    if not 1 <= count <= MAX_DIMENSIONS:
        raise cursor.error(f"it has {count} dimensions, not 1 to {MAX_DIMENSIONS}", DAMAGED)
    shape = tuple(cursor.numbers(ValueType.UINT64, count).tolist()[::-1])
    if 0 in shape:
        raise cursor.error(f"its shape {shape} has a dimension of 0", NOT_WELL_FORMED)
    return shape


def _refuse_overlaps(cursor: Cursor, tensors: dict[str, GgufTensor]) -> None:
    end, previous = 0, ""
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1].offset):
        if tensor.offset < end:
            cursor.where = name
            raise cursor.error(f"its bytes overlap those of {previous}", NOT_WELL_FORMED)
        end, previous = tensor.offset + tensor.info.nbytes, name
