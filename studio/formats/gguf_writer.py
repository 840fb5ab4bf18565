"""Writes GGUF files of arrays: atomic, one tensor at a time, and verified by re-reading."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import libgguf
import numpy as np

from studio.contracts import Progress
from studio.errors import SaveError
from studio.formats.dequantise import PLAIN_DTYPES
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.gguf_header import DEFAULT_ALIGNMENT, MAX_DIMENSIONS, MAX_NAME_BYTES
from studio.formats.gguf_packing import MetadataToWrite, pack_metadata
from studio.formats.gguf_stream import TensorSlot, streaming_gguf

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


def slot_of(shape: tuple[int, ...], tensor_type: FloatType) -> TensorSlot:
    """Return the room that a tensor of this shape takes."""
    return TensorSlot(shape, stored_type(shape, tensor_type))


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
    slots = {name: slot_of(values.shape, tensor_type) for name, values in tensors.items()}
    first = packed.pop("general.architecture")  # where readers look for it
    stored = {key: value.to_bytes() for key, value in {"general.architecture": first, **packed}.items()}
    alignment = packed["general.alignment"].value if "general.alignment" in packed else DEFAULT_ALIGNMENT
    with streaming_gguf(path, stored, slots, alignment, protected) as stream:
        for done, (name, values) in enumerate(tensors.items(), start=len(tensors)):
            yield Progress(done, total, f"Writing {name}")
            stream.put(name, 0, encode(values, stored_type(values.shape, tensor_type)))
        for step in stream.verify():
            yield Progress(2 * len(tensors) + step.done, total, step.message)
    yield Progress(total, total, "Written")


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
