"""Reads safetensors files, every claim of their header checked before memory is taken.

The format: https://huggingface.co/docs/safetensors. The checks are our own, for they name the tensor at fault
and keep to a small cap; the safetensors package then reads.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, deserialize

from studio.contracts import TensorInfo
from studio.errors import FormatError
from studio.formats.files import open_regular_file
from studio.formats.pickle_guard import refuse_pickle

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path

MAX_HEADER_BYTES = 25 << 20
"""Cap on the JSON: a hundred thousand tensors take 15 MB. (The format's own cap is 100 MB.)"""

MAX_DIMENSIONS = 8
MAX_SIZE = 1 << 62  # of a dimension or offset: what JSON says can be larger than any integer type

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype("<f8"),
    "F32": np.dtype("<f4"),
    "F16": np.dtype("<f2"),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype("<i8"),
    "I32": np.dtype("<i4"),
    "I16": np.dtype("<i2"),
    "I8": np.dtype("<i1"),
    "U64": np.dtype("<u8"),
    "U32": np.dtype("<u4"),
    "U16": np.dtype("<u2"),
    "U8": np.dtype("<u1"),
    "BOOL": np.dtype("?"),
}

DAMAGED = "The file is damaged or was cut short; copy or download it again"


def read_safetensors(path: Path) -> dict[str, np.ndarray[Any, Any]]:
    """Read all tensors: floating numbers of any width as float32, integers and truth values as stored.

    Raises
    ------
    FormatError
        The file cannot be read, is a pickle, is damaged, or holds a type that is not supported.
    """
    refuse_pickle(path)
    with open_regular_file(path) as file:
        tensors, _ = _read_header(file, path)
        file.seek(0)
        try:
            views = dict(deserialize(file.read()))  # type: ignore[no-untyped-call]
        except SafetensorError as error:  # it changed since its header was checked
            raise _error(path, f"the file changed while it was read: {error}") from error
    return {name: _as_array(path, info, views[name]["data"]) for name, info in tensors.items()}


def read_safetensors_header(path: Path) -> dict[str, TensorInfo]:
    """Return what the tensors are, in the order of their bytes, without reading those.

    Raises
    ------
    FormatError
        As `read_safetensors` does.
    """
    with open_regular_file(path) as file:
        return _read_header(file, path)[0]


def read_safetensors_metadata(path: Path) -> dict[str, str]:
    """Return the texts that the header holds beside the tensors. Raises `FormatError`."""
    with open_regular_file(path) as file:
        return _read_header(file, path)[1]


class SafetensorsFile:
    """A file whose tensors are read one at a time. Its errors are those of `read_safetensors`."""

    def __init__(self, path: Path) -> None:
        refuse_pickle(path)
        self.path = path
        self.tensors = read_safetensors_header(path)
        ends = list(itertools.accumulate(info.nbytes for info in self.tensors.values()))
        self._size = path.stat().st_size
        start = self._size - (ends[-1] if ends else 0)  # the tensors fill the file to its end
        self._offsets = {
            name: start + end - info.nbytes
            for (name, info), end in zip(self.tensors.items(), ends, strict=True)
        }

    def dense(self, name: str) -> np.ndarray[Any, Any]:
        """Return one tensor: floating numbers of any width as float32. Raises `FormatError`."""
        info = self.tensors[name]
        with open_regular_file(self.path) as file:
            if os.fstat(file.fileno()).st_size != self._size:
                raise _error(self.path, "the file changed while it was read")
            file.seek(self._offsets[name])
            return _as_array(self.path, info, file.read(info.nbytes))


def _read_header(file: FileIO, path: Path) -> tuple[dict[str, TensorInfo], dict[str, str]]:
    """Return the tensors by name, in the order of their bytes, and the texts beside them."""
    size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > size - 8:
        raise _error(path, f"the header of {length} bytes reaches past the end of the file")
    if length > MAX_HEADER_BYTES:
        raise _error(path, f"the header takes {length:,} bytes, more than {MAX_HEADER_BYTES:,}")
    entries = _parse_json(file.read(length), path)
    metadata = entries.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise _error(path, "the metadata holds something other than texts", "__metadata__")
    spans = {name: _check_entry(path, name, entry) for name, entry in entries.items()}
    tensors = {}
    end = 0
    for name, (begin, info) in sorted(spans.items(), key=lambda item: (item[1][0], item[1][1].nbytes)):
        if begin != end:
            raise _error(path, f"its bytes {'overlap' if begin < end else 'leave a hole after'} others", name)
        end = begin + info.nbytes
        tensors[name] = info
    if 8 + length + end != size:
        raise _error(path, f"the tensors end at byte {8 + length + end:,}, the file at {size:,}")
    return tensors, metadata


def _parse_json(data: bytes, path: Path) -> dict[str, Any]:
    def without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        members = dict(pairs)
        if len(members) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise _error(path, "the name stands in the header twice", twice)
        return members

    try:
        text = data.decode("utf-8")
        if not text.startswith("{"):
            raise _error(path, "this is not a safetensors file", remedy="Choose another file")
        entries: dict[str, Any] = json.loads(text, object_pairs_hook=without_duplicates)
    except UnicodeDecodeError:
        raise _error(path, "the header is not valid UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise _error(path, f"the header is not valid JSON: {error}") from None
    return entries


def _check_entry(path: Path, name: str, entry: Any) -> tuple[int, TensorInfo]:
    """Return where a tensor begins, counted from the end of the header, and what it is."""
    try:
        name.encode("utf-8")  # JSON can spell half a surrogate pair, which no file name or label can hold
    except UnicodeEncodeError:
        raise _error(path, "a name is not valid Unicode", ascii(name)) from None
    if not isinstance(entry, dict) or entry.keys() != {"dtype", "shape", "data_offsets"}:
        raise _error(path, "the entry is not made of dtype, shape and data_offsets", name)
    shape, span, dtype = entry["shape"], entry["data_offsets"], entry["dtype"]
    if not _are_sizes(shape) or len(shape) > MAX_DIMENSIONS:
        raise _error(path, f"the shape {str(shape)[:80]} is no list of up to {MAX_DIMENSIONS} sizes", name)
    if not _are_sizes(span) or len(span) != 2 or span[0] > span[1]:
        raise _error(path, f"the offsets {str(span)[:80]} are no pair of rising numbers", name)
    if not isinstance(dtype, str) or dtype not in DTYPES:
        remedy = "Convert it to F16, BF16 or F32"
        raise _error(path, f"the type {str(dtype)[:80]} is not supported", name, remedy)
    nbytes = math.prod(shape) * DTYPES[dtype].itemsize
    if nbytes != span[1] - span[0]:
        raise _error(
            path, f"{dtype} {shape} takes {nbytes} bytes, its offsets span {span[1] - span[0]}", name
        )
    return span[0], TensorInfo(name, tuple(shape), dtype, nbytes)


def _are_sizes(values: Any) -> bool:
    return isinstance(values, list) and all(type(value) is int and 0 <= value < MAX_SIZE for value in values)


def _as_array(path: Path, info: TensorInfo, data: bytes) -> np.ndarray[Any, Any]:
    dtype = DTYPES[info.type_name]
    if dtype.kind == "b" and data.strip(b"\0\1"):
        raise _error(path, "a truth value is neither 0 nor 1", info.name)
    values: np.ndarray[Any, Any] = np.frombuffer(data, dtype).reshape(info.shape)
    if dtype.kind in "biu":
        return values
    with np.errstate(over="ignore"):  # F64 beyond float32 becomes infinite; whoever reads weights checks that
        return values.astype(np.float32, copy=False)


def _error(path: Path, message: str, where: str | None = None, remedy: str = DAMAGED) -> FormatError:
    return FormatError(message, path=path, where=where, remedy=remedy)
