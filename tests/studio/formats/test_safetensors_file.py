"""Reading safetensors: real files exactly, damaged and hostile ones with an error that names the tensor."""

from __future__ import annotations

import json
import os
import time
import tracemalloc
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from studio.errors import FormatError
from studio.formats.safetensors_file import DTYPES, read_safetensors


def encode(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + data


def entry(begin: int, end: int, shape: list[Any] | None = None, dtype: Any = "F32") -> dict[str, Any]:
    return {
        "dtype": dtype,
        "shape": [(end - begin) // 4] if shape is None else shape,
        "data_offsets": [begin, end],
    }


def test_real_adapters_equal_those_of_the_safetensors_package(adapters_dir: Path) -> None:
    for path in adapters_dir.glob("*/adapter_model.safetensors"):
        theirs, ours = load_file(path), read_safetensors(path)
        assert ours.keys() == theirs.keys()
        for name, values in ours.items():
            np.testing.assert_array_equal(values, theirs[name].astype(np.float32), strict=True)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16, ml_dtypes.bfloat16])
def test_floating_numbers_become_float32(tmp_path: Path, dtype: Any) -> None:
    values = np.array([[0.5, -2, 3], [0.25, 1, -96]], dtype)
    save_file({"a": values, "none": np.zeros((0, 4), dtype)}, tmp_path / "a.safetensors")
    read = read_safetensors(tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read["a"], values.astype(np.float32), strict=True)
    assert read["none"].shape == (0, 4)


def test_eight_bit_floating_numbers_become_float32(tmp_path: Path) -> None:
    for name in ("F8_E4M3", "F8_E5M2"):
        data = np.array([0.5, -2, 1, 0], DTYPES[name]).tobytes()
        (tmp_path / "a").write_bytes(encode({"a": entry(0, 4, [4], name)}, data))
        np.testing.assert_array_equal(
            read_safetensors(tmp_path / "a")["a"], np.array([0.5, -2, 1, 0], np.float32)
        )


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.bool_])
def test_whole_numbers_and_truth_values_stay(tmp_path: Path, dtype: Any) -> None:
    values = np.array([[0, 1], [1, 1]], dtype)
    save_file({"a": values}, tmp_path / "a.safetensors")
    np.testing.assert_array_equal(read_safetensors(tmp_path / "a.safetensors")["a"], values, strict=True)


HUGE = 1 << 63
FAULTS: dict[str, tuple[bytes, str]] = {
    "cut in the length": (b"\x10\0\0", "reaches past the end"),
    "length past the end": (encode({}, length=9), "header of 9 bytes reaches past the end"),
    "length of 2^63": (encode({}, length=HUGE), "header of 9223372036854775808 bytes reaches past the end"),
    "length over the cap": (encode(b"{", bytes(26 << 20), 26 << 20), "more than 26,214,400"),
    "not JSON": (encode(b"{]"), "not valid JSON"),
    "no object": (encode([]), "not a safetensors file"),
    "nested JSON": (encode(b'{"a":' + b"[" * 100_000), "not valid JSON"),
    "bad UTF-8": (encode(b'{"\xff":1}'), "not valid UTF-8"),
    "half a surrogate": (encode(b'{"\\ud800":1}'), "not valid Unicode"),
    "name twice": (encode(b'{"a":1,"a":2}'), "a: the name stands in the header twice"),
    "metadata of numbers": (
        encode({"__metadata__": {"a": 1}}),
        "__metadata__: the metadata holds something other",
    ),
    "no entry": (encode({"a": 1}), "a: the entry is not made of"),
    "missing field": (encode({"a": {"dtype": "F32", "shape": []}}), "a: the entry is not made of"),
    "more fields": (encode({"a": {**entry(0, 4), "b": 1}}, bytes(4)), "a: the entry is not made of"),
    "shape is a number": (encode({"a": {**entry(0, 4), "shape": 1}}, bytes(4)), "a: the shape 1 is no list"),
    "negative size": (encode({"a": entry(0, 4, [-1, -1])}, bytes(4)), "a: the shape"),
    "size is a fraction": (encode({"a": entry(0, 4, [1.0])}, bytes(4)), "a: the shape"),
    "size is a truth value": (encode({"a": entry(0, 4, [True])}, bytes(4)), "a: the shape"),
    "size of 2^63": (encode({"a": entry(0, 0, [HUGE, 0])}), "a: the shape"),
    "many dimensions": (encode({"a": entry(0, 4, [1] * 9)}, bytes(4)), "a: the shape"),
    "product past 2^64": (
        encode({"a": entry(0, 4, [1 << 32, 1 << 32])}, bytes(4)),
        "a: F32 .* takes 7378697629",
    ),
    "offsets fall": (encode({"a": entry(4, 0, [1])}, bytes(4)), "a: the offsets"),
    "negative offset": (encode({"a": entry(-4, 0, [1])}, bytes(4)), "a: the offsets"),
    "offset of 2^64": (encode({"a": entry(0, 1 << 64, [1])}, bytes(4)), "a: the offsets"),
    "three offsets": (encode({"a": {**entry(0, 4), "data_offsets": [0, 4, 4]}}, bytes(4)), "a: the offsets"),
    "offsets are no list": (encode({"a": {**entry(0, 4), "data_offsets": None}}, bytes(4)), "a: the offsets"),
    "unknown type": (encode({"a": entry(0, 4, [1], "Q4")}, bytes(4)), "a: the type Q4 is not supported"),
    "type is a list": (encode({"a": entry(0, 4, [1], [])}, bytes(4)), r"a: the type \[\] is not supported"),
    "size and shape differ": (encode({"a": entry(0, 8, [3])}, bytes(8)), "a: F32 .* takes 12 bytes"),
    "overlap": (encode({"a": entry(0, 8), "b": entry(4, 12)}, bytes(12)), "b: its bytes overlap"),
    "same bytes": (encode({"a": entry(0, 8), "b": entry(0, 8)}, bytes(8)), "b: its bytes overlap"),
    "hole": (encode({"a": entry(0, 8), "b": entry(12, 16)}, bytes(16)), "b: its bytes leave a hole"),
    "hole at the start": (encode({"a": entry(4, 8)}, bytes(8)), "a: its bytes leave a hole"),
    "data cut": (encode({"a": entry(0, 8)}, bytes(7)), "the tensors end at byte"),
    "data left over": (encode({"a": entry(0, 8)}, bytes(9)), "the tensors end at byte"),
    "truth value": (encode({"a": entry(0, 1, [1], "BOOL")}, b"\2"), "a: a truth value"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_quickly_and_without_taking_memory(fault: str, tmp_path: Path) -> None:
    data, message = FAULTS[fault]
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(data)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FormatError, match=message) as caught:
        read_safetensors(path)
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    assert seconds < 1
    assert peak < 100e6


def test_a_tensor_larger_than_the_file_is_refused_before_memory_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(encode({"a": entry(0, 1 << 50)}, bytes(4)))
    with pytest.raises(FormatError, match="the tensors end at byte"):
        read_safetensors(path)


@pytest.mark.parametrize("kind", ["missing", "empty", "folder"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "adapter.safetensors"
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    with pytest.raises(FormatError, match=r"does not exist|is empty|not a file"):
        read_safetensors(path)


SOUND = encode({"a": entry(0, 8), "b": entry(8, 12, [1, 1]), "__metadata__": {"format": "pt"}}, bytes(12))


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(SOUND)
    assert list(read_safetensors(path)) == ["a", "b"]
    for length in range(len(SOUND) - 1, -1, -1):
        os.truncate(path, length)
        with pytest.raises(FormatError):
            read_safetensors(path)


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=300, deadline=None)
def test_flipped_bytes_give_tensors_or_a_format_error(
    tmp_path_factory: pytest.TempPathFactory, flips: list[tuple[int, int]]
) -> None:
    data = bytearray(SOUND)
    for position, value in flips:
        data[position] = value
    path = tmp_path_factory.getbasetemp() / "flipped.safetensors"
    path.write_bytes(data)
    try:
        tensors = read_safetensors(path)
    except FormatError:
        return
    assert sum(values.nbytes for values in tensors.values()) <= 4 * len(data)
