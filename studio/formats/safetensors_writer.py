"""Writes safetensors files, one tensor in memory at a time, and verifies them by re-reading.

The format: https://huggingface.co/docs/safetensors. The package's own writer wants all tensors at once.
"""

from __future__ import annotations

import json
import math
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.contracts import Progress
from studio.errors import SaveError
from studio.formats.safetensors_file import DTYPES, read_safetensors_header

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from studio.contracts import FloatArray, Work

SafetensorsType: TypeAlias = Literal["F32", "F16", "BF16"]
"""The types that tensors can be written in."""


@dataclass(frozen=True)
class PendingTensor:
    """A tensor that is made when its turn comes: its shape, and what makes it."""

    shape: tuple[int, ...]
    make: Callable[[], FloatArray]

    @classmethod
    def of(cls, values: FloatArray) -> PendingTensor:
        """Take one that is there already."""
        return cls(values.shape, lambda: values)

    def nbytes(self, tensor_type: SafetensorsType) -> int:
        """Return its size in a file."""
        return math.prod(self.shape) * DTYPES[tensor_type].itemsize


def write_safetensors(
    path: Path,
    tensors: Mapping[str, PendingTensor],
    tensor_type: SafetensorsType = "F32",
    metadata: Mapping[str, str] | None = None,
) -> Work:
    """Write a file, yielding at each tensor. It is not atomic: it belongs into what is.

    Parameters
    ----------
    path
        The file, in a folder of `replacing_folder` or itself a temporary one of `write_atomically`.
    tensors
        The tensors by name, in the order they are written in.
    tensor_type
        The type they are stored in.
    metadata
        Texts for the header; transformers wants ``format`` to be ``pt``.

    Raises
    ------
    SaveError
        A weight is not finite or overflows the type, or what was written reads back differently.
    """
    header = _header(tensors, tensor_type, {"format": "pt"} if metadata is None else metadata)
    checksums: dict[str, int] = {}
    total = 2 * len(tensors)
    with path.open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        for done, (name, tensor) in enumerate(tensors.items()):
            yield Progress(done, total, f"Writing {name}")
            data = _stored(tensor, tensor_type, path, name)
            checksums[name] = zlib.crc32(data.data)
            file.write(data.data)
    written = read_safetensors_header(path)
    with path.open("rb") as file:
        file.seek(8 + len(header))
        for done, (name, tensor) in enumerate(tensors.items(), start=len(tensors)):
            yield Progress(done, total, f"Verifying {name}")
            found = written.get(name)
            same = found is not None and (found.shape, found.type_name) == (tensor.shape, tensor_type)
            if not same or zlib.crc32(file.read(tensor.nbytes(tensor_type))) != checksums[name]:
                raise SaveError(
                    "what was written reads back differently",
                    path=path,
                    where=name,
                    remedy="Save again, to another disk if it happens twice",
                )


def _header(
    tensors: Mapping[str, PendingTensor], tensor_type: SafetensorsType, metadata: Mapping[str, str]
) -> bytes:
    entries: dict[str, object] = {"__metadata__": dict(metadata)}
    end = 0
    for name, tensor in tensors.items():
        begin, end = end, end + tensor.nbytes(tensor_type)
        entries[name] = {"dtype": tensor_type, "shape": list(tensor.shape), "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % 8)  # so that the numbers begin where processors like them to


def _stored(
    tensor: PendingTensor, tensor_type: SafetensorsType, path: Path, name: str
) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    """Make a tensor, check it, and return its bytes."""
    values = tensor.make()
    if values.shape != tensor.shape:
        raise ValueError(f"{name} was to be {tensor.shape} and is {values.shape}")
    problem, remedy = "", "Leave this adapter out"
    if missing := int(np.count_nonzero(~np.isfinite(values))):
        problem = f"{missing:,} of {values.size:,} values are not finite"
    with np.errstate(over="ignore"):
        stored = np.ascontiguousarray(values, dtype=DTYPES[tensor_type])
    if not problem and (lost := int(np.count_nonzero(~np.isfinite(stored)))):
        problem = f"{lost:,} of {values.size:,} values are too large for {tensor_type}"
        remedy = "Save as BF16 or F32" if tensor_type == "F16" else "Lower the scale"
    if problem:
        raise SaveError(problem, path=path, where=name, remedy=remedy)
    return stored.reshape(-1).view(np.uint8)
