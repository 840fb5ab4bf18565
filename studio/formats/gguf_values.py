"""Metadata values of GGUF: a checked cursor over the file's bytes, and the value types."""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from studio.errors import FormatError

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

    from studio.contracts import MetadataValue

Buffer: TypeAlias = "bytes | mmap.mmap"

MAX_HEADER_BYTES = 64 << 20
"""Cap on everything before the tensors: four times what the largest vocabularies in use need."""

MAX_TEXTS = 1 << 21
"""Cap on the texts in all arrays: almost three times what the largest vocabularies in use need."""

MAX_INNER_ARRAYS = 1 << 14
"""Cap on the arrays inside arrays."""

MAX_DEPTH = 8
"""Cap on arrays inside arrays; no known key nests them at all."""

DAMAGED = "The file is damaged or was cut short; copy or download it again"
NOT_WELL_FORMED = "The program that wrote the file made a mistake; convert the model again"


class ValueType(IntEnum):
    """Type of a metadata value, by its number in files."""

    UINT8 = 0
    INT8 = 1
    UINT16 = 2
    INT16 = 3
    UINT32 = 4
    INT32 = 5
    FLOAT32 = 6
    BOOL = 7
    STRING = 8
    ARRAY = 9
    UINT64 = 10
    INT64 = 11
    FLOAT64 = 12


NUMBER_DTYPES: dict[int, np.dtype[Any]] = {
    ValueType.UINT8: np.dtype("<u1"),
    ValueType.INT8: np.dtype("<i1"),
    ValueType.UINT16: np.dtype("<u2"),
    ValueType.INT16: np.dtype("<i2"),
    ValueType.UINT32: np.dtype("<u4"),
    ValueType.INT32: np.dtype("<i4"),
    ValueType.FLOAT32: np.dtype("<f4"),
    ValueType.BOOL: np.dtype("?"),
    ValueType.UINT64: np.dtype("<u8"),
    ValueType.INT64: np.dtype("<i8"),
    ValueType.FLOAT64: np.dtype("<f8"),
}

_UINT64 = struct.Struct("<Q")


class Cursor:
    """A position in the bytes of a header that never reads past their end.

    Parameters
    ----------
    data
        The file's bytes, usually mapped.
    path
        The file, for error messages.
    """

    def __init__(self, data: Buffer, path: Path) -> None:
        self.data = data
        self.path = path
        self.position = 0
        self.where = "header"  # what is being read, for error messages
        self.end = min(len(data), MAX_HEADER_BYTES)
        self._texts = 0
        self._inner_arrays = 0

    def error(self, message: str, remedy: str = DAMAGED) -> FormatError:
        """Return a `FormatError` about what is being read."""
        return FormatError(message, path=self.path, where=self.where, remedy=remedy)

    def require(self, nbytes: int, what: str) -> None:
        """Raise `FormatError` unless so many bytes are left."""
        if nbytes <= self.end - self.position:
            return
        if nbytes <= len(self.data) - self.position:
            raise self.error(f"{what} reaches past the {MAX_HEADER_BYTES >> 20} MiB that a header may take")
        raise self.error(f"{what} at byte {self.position} reaches past the end of the file")

    def number(self, kind: ValueType) -> Any:
        """Read one number or truth value as a Python object."""
        return self.numbers(kind, 1)[0].item()

    def numbers(self, kind: ValueType, count: int) -> np.ndarray[Any, Any]:
        """Read an array of numbers, which is read-only."""
        dtype = NUMBER_DTYPES[kind]
        nbytes = count * dtype.itemsize
        self.require(nbytes, "a value" if count == 1 else f"an array of {count} values")
        start, self.position = self.position, self.position + nbytes
        # The slice is a copy: a program that cuts a mapped file kills every other that looks into it.
        data = self.data[start : self.position]
        # What is left when zeros and ones are stripped from both ends begins with something else.
        if kind is ValueType.BOOL and data.strip(b"\0\1"):
            raise self.error("a truth value is neither 0 nor 1")
        return np.frombuffer(data, dtype)

    def text(self, what: str = "a text") -> str:
        """Read one length-prefixed UTF-8 text."""
        length = self.number(ValueType.UINT64)
        self.require(length, f"{what} of {length} bytes")
        start, self.position = self.position, self.position + length
        try:
            return self.data[start : self.position].decode("utf-8")
        except UnicodeDecodeError:
            raise self.error(f"{what} is not valid UTF-8") from None

    def texts(self, count: int) -> list[str]:
        """Read an array of texts. A vocabulary has 10^5: this loop decides how long opening a file takes."""
        self.require(count * _UINT64.size, f"an array of {count} texts")
        self._texts += count
        if self._texts > MAX_TEXTS:
            raise self.error(f"the metadata holds more than {MAX_TEXTS:,} texts", NOT_WELL_FORMED)
        data, position, end = self.data, self.position, self.end
        read_length = _UINT64.unpack_from
        values: list[str] = []
        append = values.append
        for index in range(count):
            start = position + 8
            if start > end:
                raise self.error(f"text {index} reaches past the end of the header")
            (length,) = read_length(data, position)
            position = start + length
            if position > end:
                raise self.error(f"text {index} of {length} bytes reaches past the end of the header")
            try:
                append(data[start:position].decode())
            except UnicodeDecodeError:
                raise self.error(f"text {index} is not valid UTF-8") from None
        self.position = position
        return values

    def value_type(self) -> ValueType:
        """Read the type of a value."""
        number = self.number(ValueType.UINT32)
        try:
            return ValueType(number)
        except ValueError:
            raise self.error(f"value type {number} does not exist") from None

    def value(self, kind: ValueType, depth: int = 0) -> MetadataValue:
        """Read a value of a known type: arrays of numbers as NumPy arrays, other arrays as lists."""
        if kind is ValueType.STRING:
            return self.text()
        if kind is ValueType.ARRAY:
            return self._array(depth + 1)
        number: bool | int | float = self.number(kind)
        return number

    def _array(self, depth: int) -> MetadataValue:
        if depth > MAX_DEPTH:
            raise self.error(f"arrays are nested more than {MAX_DEPTH} deep", NOT_WELL_FORMED)
        kind = self.value_type()
        count: int = self.number(ValueType.UINT64)
        if kind is ValueType.STRING:
            return self.texts(count)
        if kind is not ValueType.ARRAY:
            return self.numbers(kind, count)
        self.require(count * 12, f"an array of {count} arrays")  # type and count of each
        self._inner_arrays += count
        if self._inner_arrays > MAX_INNER_ARRAYS:
            raise self.error(
                f"the metadata holds more than {MAX_INNER_ARRAYS:,} inner arrays", NOT_WELL_FORMED
            )
        return [self._array(depth + 1) for _ in range(count)]
