"""Importance matrices of llama.cpp: how much the error of each input of a weight counts.

Both of its formats: GGUF with ``<weight>.in_sum2`` and ``<weight>.counts``, and the older binary one.
https://github.com/ggml-org/llama.cpp/blob/master/tools/imatrix/imatrix.cpp
"""

from __future__ import annotations

import struct
from contextlib import closing
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import FormatError
from studio.formats.gguf_file import GgufFile

if TYPE_CHECKING:
    from pathlib import Path

    from studio.contracts import FloatArray

MAX_BYTES = 1 << 30
"""The largest models' take a few hundred megabytes."""

MAX_NAME = 256


def read_imatrix(path: Path) -> dict[str, FloatArray]:
    """Return the mean square of each input, float32 ``[in]``, or ``[E * in]`` of E experts, by weight name.

    Raises
    ------
    FormatError
        The file is no importance matrix, or is damaged.
    """
    try:
        with path.open("rb") as file:
            gguf = file.read(4) == b"GGUF"
        with np.errstate(invalid="ignore", over="ignore"):  # what is not finite is refused below
            found = _from_gguf(path) if gguf else _from_legacy(path)
    except OSError as error:
        raise FormatError(
            f"the importance matrix cannot be read: {error.strerror}", path=path, remedy="Choose another file"
        ) from None
    for name, values in found.items():
        if not np.isfinite(values).all() or (values < 0).any():
            raise _damaged(path, "it holds values that are no mean squares", name)
    if not found:
        raise _damaged(path, "it is no importance matrix")
    return found


def _from_gguf(path: Path) -> dict[str, FloatArray]:
    found: dict[str, FloatArray] = {}
    with closing(GgufFile.open_part(path)) as file:
        for name in file.tensors:
            weight = name.removesuffix(".in_sum2")
            if weight == name:
                continue
            if f"{weight}.counts" not in file.tensors:
                raise _damaged(path, "its counts are missing", name)
            sums, counts = file.dense(name), file.dense(f"{weight}.counts").reshape(-1, 1)
            if sums.size % counts.size:
                raise _damaged(path, "sums and counts do not fit", name)
            by_expert = sums.reshape(len(counts), -1)
            # an expert that was never used counts like any other
            means = np.where(counts > 0, by_expert / np.maximum(counts, 1), 1)
            found[weight] = means.astype(np.float32).reshape(-1)
    return found


def _from_legacy(path: Path) -> dict[str, FloatArray]:
    if path.stat().st_size > MAX_BYTES:
        raise _damaged(path, "it is too large for an importance matrix")
    data = path.read_bytes()
    found: dict[str, FloatArray] = {}
    try:
        (count,) = struct.unpack_from("<i", data)
        position = 4
        if count > len(data) // 12:
            raise _damaged(path, "it is no importance matrix")
        for _ in range(count):
            (length,) = struct.unpack_from("<i", data, position)
            if not 0 < length <= MAX_NAME:
                raise _damaged(path, "it is no importance matrix")
            name = data[position + 4 : position + 4 + length].decode()
            position += 4 + length
            calls, size = struct.unpack_from("<ii", data, position)
            position += 8
            if size < 1 or position + 4 * size > len(data):
                raise _damaged(path, "it was cut short", name)
            values = np.frombuffer(data, "<f4", size, position)
            found[name] = (values / max(calls, 1)).astype(np.float32)
            position += 4 * size
    except (struct.error, UnicodeDecodeError):
        raise _damaged(path, "it is no importance matrix") from None
    return found


def _damaged(path: Path, message: str, where: str | None = None) -> FormatError:
    return FormatError(message, path=path, where=where, remedy="Make it again with llama-imatrix")
