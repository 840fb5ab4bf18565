"""Importance matrices: both of llama.cpp's formats, and what is damaged."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from studio.errors import FormatError
from studio.formats.gguf_writer import write_gguf
from studio.formats.imatrix import read_imatrix


def legacy(name: bytes = b"blk.0.ffn_up.weight", calls: int = 4, values: tuple[float, ...] = (4, 8)) -> bytes:
    entry = struct.pack("<i", len(name)) + name + struct.pack("<ii", calls, len(values))
    return struct.pack("<i", 1) + entry + np.array(values, "<f4").tobytes()


def test_gguf_sums_are_divided_by_their_counts(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    tensors = {
        "blk.0.ffn_up_exps.weight.in_sum2": np.array([[2, 4], [6, 9], [5, 5]], np.float32),
        "blk.0.ffn_up_exps.weight.counts": np.array([[2], [3], [0]], np.float32),
    }
    write_gguf(path, {"general.architecture": "llama", "general.type": "imatrix"}, tensors)
    found = read_imatrix(path)
    np.testing.assert_array_equal(found["blk.0.ffn_up_exps.weight"], [1, 2, 2, 3, 1, 1])


def test_the_older_format_is_read_too(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(legacy())
    assert {name: values.tolist() for name, values in read_imatrix(path).items()} == {
        "blk.0.ffn_up.weight": [1, 2]
    }


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\1",
        b"some text that is no matrix",
        legacy()[:-1],
        legacy(name=b"\xff\xfe"),
        legacy(values=(np.nan, 1)),
        legacy(values=(-1, 1)),
        struct.pack("<i", 2**31 - 1) + b"\0" * 100,
        struct.pack("<iii", 1, 2**31 - 1, 0),
    ],
)
def test_what_is_no_matrix_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "imatrix.dat"
    path.write_bytes(data)
    with pytest.raises(FormatError, match="imatrix"):
        read_imatrix(path)


def test_sums_without_counts_are_named(tmp_path: Path) -> None:
    path = tmp_path / "imatrix.gguf"
    write_gguf(path, {"general.architecture": "llama"}, {"a.in_sum2": np.ones((1, 2), np.float32)})
    with pytest.raises(FormatError, match=r"a\.in_sum2: its counts are missing"):
        read_imatrix(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="cannot be read"):
        read_imatrix(tmp_path / "none")
