"""Writes GGUF files through the `gguf` package: atomic, one tensor at a time, and verified by re-reading."""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import libgguf
import numpy as np
from gguf import GGMLQuantizationType, GGUFValueType, GGUFWriter

from studio.contracts import Progress
from studio.errors import FormatError, SaveError
from studio.formats.atomic import flush_to_disk, replacing
from studio.formats.dequantise import PLAIN_DTYPES
from studio.formats.disk_space import require_space
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.gguf_header import MAX_DIMENSIONS, MAX_NAME_BYTES, GgufTensor, read_header
from studio.formats.gguf_packing import MetadataToWrite, PackedValue, pack_metadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from studio.contracts import Work

FloatType: TypeAlias = Literal["F32", "F16", "BF16", "Q8_0"]
"""The types that tensors can be written in."""

LARGEST_Q8_0 = 127 * float(np.finfo(np.float16).max)
"""A block of Q8_0 holds 127 times its scale at most, and the scale is an F16."""


def stored_type(shape: tuple[int, ...], tensor_type: FloatType) -> FloatType:
    """Return the type that a tensor of this shape gets: F16 where its rows are no whole blocks of Q8_0."""
    block = GGML_TYPES_BY_NAME[tensor_type].block_size
    return tensor_type if shape and shape[-1] % block == 0 else "F16"


def stored_bytes(shape: tuple[int, ...], tensor_type: FloatType) -> int:
    """Return how many bytes a tensor of this shape takes."""
    kind = GGML_TYPES_BY_NAME[stored_type(shape, tensor_type)]
    return math.prod(shape[:-1]) * kind.row_bytes(shape[-1])


def encode(values: np.ndarray[Any, Any], kind: FloatType) -> np.ndarray[Any, Any]:
    """Return numbers as they are stored, contiguous. Those that are too large become infinite."""
    if kind != "Q8_0":
        with np.errstate(over="ignore"):
            return np.ascontiguousarray(values, PLAIN_DTYPES[kind])
    rows = np.ascontiguousarray(values, np.float32).reshape(-1, values.shape[-1])
    return np.asarray(libgguf.quantize_rows(rows, GGML_TYPES_BY_NAME[kind].number))


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
        All keys in order, ``general.architecture`` among them; value types as `pack_metadata` tells.
    tensors
        Arrays of floating numbers by name, in NumPy shapes.
    tensor_type
        The type they are stored in; Q8_0 stores in F16 what its blocks of 32 do not divide.
    protected
        Files in use, which the target must not be.

    Raises
    ------
    SaveError
        A value cannot be stored, a weight is not finite or overflows the type, or the disk refuses. What
        stood at the target is unchanged.
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
    """Do what `write_gguf` does, yielding at each tensor. Closing it early leaves the target as it was."""
    packed = pack_metadata(metadata, path)
    total = 3 * len(tensors)
    for done, (name, values) in enumerate(tensors.items()):
        yield Progress(done, total, f"Checking {name}")
        _check_tensor(path, name, values, tensor_type)
    require_space(path, sum(stored_bytes(values.shape, tensor_type) for values in tensors.values()))
    with replacing(path, protected) as temporary:
        checksums: dict[str, int] = {}
        writer = _write_header(temporary, packed, tensors, tensor_type)
        try:
            assert writer.fout is not None  # it is open now
            file = writer.fout[0]
            writer.write_padding(file, file.tell())
            for done, (name, values) in enumerate(tensors.items(), start=len(tensors)):
                yield Progress(done, total, f"Writing {name}")
                data = encode(values, stored_type(values.shape, tensor_type)).reshape(-1).view(np.uint8)
                checksums[name] = zlib.crc32(data.data)
                file.write(data.data)
                writer.write_padding(file, data.nbytes)
        finally:
            writer.close()
        flush_to_disk(temporary)
        index = _verify_header(path, temporary, packed, tensors, tensor_type)
        with open(temporary, "rb") as written:
            for done, (name, tensor) in enumerate(index.items(), start=2 * len(tensors)):
                yield Progress(done, total, f"Verifying {name}")
                written.seek(tensor.offset)
                if zlib.crc32(written.read(tensor.info.nbytes)) != checksums[name]:
                    raise _not_as_written(path, name)
    yield Progress(total, total, "Written")


def _write_header(
    temporary: Path,
    metadata: Mapping[str, PackedValue],
    tensors: Mapping[str, np.ndarray[Any, Any]],
    tensor_type: FloatType,
) -> GGUFWriter:
    """Write everything before the tensors, and return the writer with its file still open."""
    writer = GGUFWriter(None, str(metadata["general.architecture"].value))
    for key, packed in metadata.items():
        if key == "general.alignment":
            writer.add_custom_alignment(packed.value)
        elif key != "general.architecture":  # the writer has put it first by itself
            item_type = None if packed.item_type is None else GGUFValueType(packed.item_type)
            writer.add_key_value(key, packed.value, GGUFValueType(packed.type), item_type)
    for name, values in tensors.items():
        kind = GGMLQuantizationType[stored_type(values.shape, tensor_type)]
        nbytes = stored_bytes(values.shape, tensor_type)
        writer.add_tensor_info(name, values.shape, values.dtype, nbytes, raw_dtype=kind)
    try:
        writer.write_header_to_file(temporary)
        writer.write_kv_data_to_file()
        writer.write_ti_data_to_file()
    except BaseException:
        writer.close()
        raise
    return writer


def _check_tensor(path: Path, name: str, values: np.ndarray[Any, Any], tensor_type: FloatType) -> None:
    problem, remedy = "", "Shorten the name"
    if not 0 < len(name.encode()) <= MAX_NAME_BYTES:
        problem = f"the name does not have 1 to {MAX_NAME_BYTES} bytes"
    elif values.dtype.kind != "f" or not 1 <= values.ndim <= MAX_DIMENSIONS or not values.size:
        problem, remedy = f"{values.dtype} values of shape {values.shape} cannot be stored", "Leave it out"
    elif missing := int(np.count_nonzero(~np.isfinite(values))):
        problem, remedy = f"{missing:,} of {values.size:,} values are not finite", "Leave this adapter out"
    else:
        kind = stored_type(values.shape, tensor_type)
        if kind == "Q8_0":
            lost = int(np.count_nonzero(np.abs(values) > LARGEST_Q8_0))
        else:
            lost = int(np.count_nonzero(~np.isfinite(encode(values, kind))))
        if lost:
            problem = f"{lost:,} of {values.size:,} values are too large for {kind}"
            remedy = "Save as F32" if kind != "F32" else "Lower the scale"
    if problem:
        raise SaveError(problem, path=path, where=name, remedy=remedy)


def _verify_header(
    path: Path,
    temporary: Path,
    metadata: Mapping[str, PackedValue],
    tensors: Mapping[str, np.ndarray[Any, Any]],
    tensor_type: FloatType,
) -> dict[str, GgufTensor]:
    """Read back what was written, compare all but the tensors' bytes, and return the tensor index."""
    try:
        header = read_header(temporary)
    except FormatError as error:
        raise _not_as_written(path, error.where, f": {error.message}") from error
    for key, packed in metadata.items():
        if key not in header.metadata or not packed.equals(header.metadata[key]):
            raise _not_as_written(path, key)
    if header.metadata.keys() != metadata.keys() or list(header.tensors) != list(tensors):
        raise _not_as_written(path)
    for name, values in tensors.items():
        info = header.tensors[name].info
        if info.shape != values.shape or info.type_name != stored_type(values.shape, tensor_type):
            raise _not_as_written(path, name)
    return header.tensors


def _not_as_written(path: Path, where: str | None = None, detail: str = "") -> SaveError:
    return SaveError(
        f"what was written reads back differently{detail}",
        path=path,
        where=where,
        remedy="Save again, to another disk if it happens twice",
    )
