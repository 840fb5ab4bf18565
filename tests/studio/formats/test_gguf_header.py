"""Reading GGUF headers: sound ones quickly, damaged and hostile ones with an error that names the place."""

from __future__ import annotations

import os
import struct
import time
import tracemalloc
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.errors import FormatError
from studio.formats.gguf_header import GgufHeader, parse_header, read_header

FILE = Path("model.gguf")
UINT8, UINT32, FLOAT32, BOOL, STRING, ARRAY, UINT64 = 0, 4, 6, 7, 8, 9, 10
F32, Q4_0 = 0, 2


def u32(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}I", *values)


def u64(*values: int) -> bytes:
    return struct.pack(f"<{len(values)}Q", *values)


def text(value: str | bytes) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    return u64(len(data)) + data


def pair(key: str | bytes, kind: int, payload: bytes) -> bytes:
    return text(key) + u32(kind) + payload


def tensor(name: str | bytes, dims: tuple[int, ...] = (8,), kind: int = F32, offset: int = 0) -> bytes:
    return text(name) + u32(len(dims)) + u64(*dims) + u32(kind) + u64(offset)


def gguf_file(
    *pairs: bytes,
    tensors: tuple[bytes, ...] = (),
    data: int = 0,
    start: bytes = b"GGUF" + u32(3),
    counts: tuple[int, int] | None = None,
    alignment: int = 32,
) -> bytes:
    """Build a file with `data` zero bytes of tensors. `counts` overrules how many entries it announces."""
    head = start + u64(*(counts or (len(tensors), len(pairs)))) + b"".join(pairs) + b"".join(tensors)
    return head + bytes(-len(head) % alignment + data) if data else head


ARCHITECTURE = pair("general.architecture", STRING, text("llama"))
SOUND = gguf_file(
    ARCHITECTURE,
    pair("rope", FLOAT32, struct.pack("<f", 0.5)),
    pair("tokens", ARRAY, u32(STRING) + u64(2) + text("a") + text("ü")),
    pair("ids", ARRAY, u32(UINT32) + u64(2) + u32(1, 2)),
    tensors=(tensor("a", (32, 2), Q4_0), tensor("b", (2, 3), F32, 64)),
    data=64 + 24,
)


def parse(data: bytes) -> GgufHeader:
    return parse_header(data, FILE)


def test_a_sound_file_is_read_whole() -> None:
    header = parse(SOUND)
    assert (header.version, header.alignment) == (3, 32)
    ids = header.metadata.pop("ids")
    assert header.metadata == {"general.architecture": "llama", "rope": 0.5, "tokens": ["a", "ü"]}
    np.testing.assert_array_equal(ids, np.array([1, 2], np.uint32), strict=True)
    assert [t.info.shape for t in header.tensors.values()] == [(2, 32), (3, 2)]
    assert [t.info.type_name for t in header.tensors.values()] == ["Q4_0", "F32"]
    assert [t.info.nbytes for t in header.tensors.values()] == [36, 24]
    assert [t.offset - header.data_offset for t in header.tensors.values()] == [0, 64]
    assert header.data_offset == len(SOUND) - 88


def test_version_2_has_the_same_layout() -> None:
    assert parse(b"GGUF" + u32(2) + SOUND[8:]).version == 2


def test_a_vocabulary_without_tensors_is_sound() -> None:
    assert parse(gguf_file(ARCHITECTURE)).tensors == {}


def test_all_value_types_are_read_as_the_gguf_package_writes_them(tmp_path: Path) -> None:
    values: dict[str, Any] = {
        "uint8": 200,
        "int8": -100,
        "uint16": 60_000,
        "int16": -30_000,
        "uint32": 2**32 - 1,
        "int32": -(2**31),
        "float32": 0.25,
        "uint64": 2**64 - 1,
        "int64": -(2**63),
        "float64": 0.1,
        "bool": True,
        "string": "ein Wört",
    }
    writer = gguf.GGUFWriter(tmp_path / "types.gguf", "llama")
    for kind, value in values.items():
        getattr(writer, f"add_{kind}")(kind, value)
        item_type = gguf.GGUFValueType[kind.upper()]
        writer.add_key_value(f"{kind}s", [value, value], gguf.GGUFValueType.ARRAY, item_type)
    writer.add_array("nested", [[1, 2], [3]])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()

    metadata = read_header(tmp_path / "types.gguf").metadata
    for kind, value in values.items():
        stored, array = metadata[kind], metadata[f"{kind}s"]
        assert type(stored) is type(value)
        assert stored == value
        if kind == "string":
            assert array == [value, value]
        else:
            assert isinstance(array, np.ndarray)
            assert array.dtype == np.dtype(kind)
            assert array.tolist() == [value, value]
    nested = metadata["nested"]
    assert isinstance(nested, list)
    assert [part.tolist() for part in nested] == [[1, 2], [3]]


def test_a_real_model_opens_quickly(smollm2_path: Path) -> None:
    seconds = []
    for _ in range(5):
        start = time.perf_counter()
        header = read_header(smollm2_path)
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.15
    assert (len(header.metadata), len(header.tensors)) == (33, 272)
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    assert len(tokens) == 49_152
    query = header.tensors["blk.0.attn_q.weight"]
    assert (query.info.shape, query.info.type_name, query.info.nbytes) == (
        (576, 576),
        "Q4_1",
        576 * 576 * 20 // 32,
    )


def test_the_index_equals_that_of_the_gguf_package(data_dir: Path) -> None:
    path = data_dir / "smollm2-fortune-f16.gguf"
    theirs = {t.name: (t.data_offset, t.n_bytes, t.tensor_type.name) for t in gguf.GGUFReader(path).tensors}
    tensors = read_header(path).tensors
    assert {name: (t.offset, t.info.nbytes, t.info.type_name) for name, t in tensors.items()} == theirs


def test_the_bytes_of_tensors_are_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "large.gguf"
    path.write_bytes(gguf_file(ARCHITECTURE, tensors=(tensor("a", (1 << 20, 1 << 12)),), data=1))
    os.truncate(path, 17 << 30)  # a hole that takes no room on the disk; to read it would take seconds
    start = time.perf_counter()
    assert read_header(path).tensors["a"].info.nbytes == 16 << 30
    assert time.perf_counter() - start < 1


def deep(levels: int) -> bytes:
    return (u32(ARRAY) + u64(1)) * levels + u32(UINT8) + u64(1) + b"\0"


def aligned(value: bytes, kind: int = UINT32) -> bytes:
    return gguf_file(pair("general.alignment", kind, value), tensors=(tensor("a"),), data=32)


def one_tensor(name: str | bytes = "a", data: int = 32, **options: Any) -> bytes:
    return gguf_file(tensors=(tensor(name, **options),), data=data)


def two_tensors(second: bytes, data: int = 96) -> bytes:
    return gguf_file(tensors=(tensor("a"), second), data=data)


HUGE = 1 << 63
FAULTS: dict[str, tuple[bytes, str]] = {
    "magic": (b"PNG!" + SOUND[4:], "not a GGUF file"),
    "legacy magic": (b"tjgg" + SOUND[4:], "before GGUF"),
    "version 0": (gguf_file(start=b"GGUF" + u32(0)), "version 0 is not supported"),
    "version 1": (gguf_file(start=b"GGUF" + u32(1)), "version 1 is not supported"),
    "version 99": (gguf_file(start=b"GGUF" + u32(99)), "version 99 is not supported"),
    "big-endian": (gguf_file(start=b"GGUF" + struct.pack(">I", 3)), "big-endian"),
    "tensor count": (gguf_file(counts=(HUGE, 0)), "header: .*too short for the 9223372036854775808 tensors"),
    "value count": (gguf_file(counts=(0, HUGE)), "header: .*too short for the 9223372036854775808 metadata"),
    "value count past the end": (
        gguf_file(ARCHITECTURE, counts=(0, 9)),
        "too short for the 9 metadata values",
    ),
    "many values": (gguf_file(counts=(0, 70_000)) + bytes(1 << 20), "announces 70000"),
    "key length": (
        gguf_file(u64(HUGE) + bytes(99), counts=(0, 1)),
        "metadata key 0: a key of 9223372036854775808",
    ),
    "empty key": (gguf_file(pair("", UINT64, u64(0))), "metadata key 0: a key is empty"),
    "key of 64 KiB": (gguf_file(pair("k" * 65_536, UINT8, b"\0")), "longer than 65535"),
    "key twice": (gguf_file(ARCHITECTURE, ARCHITECTURE), r"general\.architecture: the key .* twice"),
    "key not UTF-8": (gguf_file(pair(b"\xff\xfe", UINT8, b"\0")), "metadata key 0: a key is not valid UTF-8"),
    "value type": (gguf_file(pair("k", 13, b"\0")), "k: value type 13 does not exist"),
    "text length": (gguf_file(pair("k", STRING, u64(HUGE))), "k: a text of 9223372036854775808 bytes"),
    "text not UTF-8": (gguf_file(pair("k", STRING, text(b"\xc3("))), "k: a text is not valid UTF-8"),
    "texts count": (
        gguf_file(pair("k", ARRAY, u32(STRING) + u64(HUGE))),
        "k: an array of 9223372036854775808 texts",
    ),
    "texts past the end": (
        gguf_file(pair("k", ARRAY, u32(STRING) + u64(3) + bytes(16) + u64(9))),
        "k: text 2 of 9",
    ),
    "texts without length": (
        gguf_file(pair("k", ARRAY, u32(STRING) + u64(2) + text("too long"))),
        "k: text 1 reach",
    ),
    "texts not UTF-8": (
        gguf_file(pair("k", ARRAY, u32(STRING) + u64(1) + text(b"\xff"))),
        "k: text 0 is not valid",
    ),
    "too many texts": (
        gguf_file(pair("k", ARRAY, u32(STRING) + u64(3 << 20)), data=24 << 20),
        "more than 2,097,152",
    ),
    "numbers count": (
        gguf_file(pair("k", ARRAY, u32(UINT64) + u64(HUGE))),
        "k: an array of 9223372036854775808 val",
    ),
    "numbers overflow": (gguf_file(pair("k", ARRAY, u32(UINT64) + u64(1 << 61))), "k: an array of"),
    "arrays count": (
        gguf_file(pair("k", ARRAY, u32(ARRAY) + u64(HUGE))),
        "k: an array of 9223372036854775808 arrays",
    ),
    "too many arrays": (
        gguf_file(pair("k", ARRAY, u32(ARRAY) + u64(1 << 20)), data=12 << 20),
        "more than 16,384",
    ),
    "arrays nested": (gguf_file(pair("k", ARRAY, deep(5000))), "k: arrays are nested more than 8 deep"),
    "header too long": (
        gguf_file(pair("k", ARRAY, u32(UINT8) + u64(65 << 20)), data=65 << 20),
        "past the 64 MiB",
    ),
    "truth value": (gguf_file(pair("k", BOOL, b"\2")), "k: a truth value"),
    "truth values": (gguf_file(pair("k", ARRAY, u32(BOOL) + u64(2) + b"\1\2")), "k: a truth value"),
    "alignment 0": (aligned(u32(0)), r"general\.alignment: the alignment 0"),
    "alignment 3": (aligned(u32(3)), r"general\.alignment: the alignment 3"),
    "alignment 2^31": (aligned(u32(1 << 31)), r"general\.alignment: the alignment 2147483648"),
    "alignment type": (aligned(u64(32), UINT64), r"general\.alignment: .* type UINT64"),
    "name of 64 bytes": (one_tensor("x" * 64), "x{63}…: the name is longer than 63 bytes"),
    "name empty": (one_tensor(""), "tensor index: a tensor has no name"),
    "name not UTF-8": (one_tensor(b"\xff"), "tensor index: the name of a tensor is not valid UTF-8"),
    "name length": (
        gguf_file(u64(HUGE) + bytes(64), counts=(1, 0)),
        "tensor index: the name of a tensor of 9",
    ),
    "name twice": (two_tensors(tensor("a", offset=32)), "a: two tensors have this name"),
    "no dimensions": (one_tensor(dims=()), "a: it has 0 dimensions"),
    "5 dimensions": (one_tensor(dims=(1, 1, 1, 1, 8)), "a: it has 5 dimensions"),
    "10^6 dimensions": (
        gguf_file(text("a") + u32(10**6) + bytes(99), counts=(1, 0)),
        "a: it has 1000000 dimensions",
    ),
    "zero dimension": (one_tensor(dims=(8, 0)), "a: its shape .* has a dimension of 0"),
    "product past 2^64": (
        one_tensor(dims=(1 << 32, 1 << 32, 8)),
        "a: shape .* needs .* more than the whole file",
    ),
    "ragged blocks": (
        one_tensor(dims=(40,), kind=Q4_0),
        "a: its rows of 40 values are no whole number of Q4_0",
    ),
    "unknown tensor type": (one_tensor(kind=77), "a: tensor type 77 is unknown"),
    "removed tensor type": (one_tensor(kind=4), "a: tensor type 4 is unknown"),
    "offset past the end": (one_tensor(offset=64), "a: its 32 bytes at .* past the end of the file"),
    "offset 2^64": (one_tensor(offset=(1 << 64) - 32), "a: its 32 bytes at .* past the end of the file"),
    "offset unaligned": (one_tensor(offset=8, data=64), "a: offset 8 is no multiple of the alignment 32"),
    "overlap": (two_tensors(tensor("b", (9,))), "overlap"),
    "overlap in part": (
        gguf_file(tensors=(tensor("b", offset=32), tensor("a", (9,))), data=96),
        "b: .* those of a",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_quickly_and_without_taking_memory(fault: str, tmp_path: Path) -> None:
    data, message = FAULTS[fault]
    path = tmp_path / "model.gguf"
    path.write_bytes(data)
    tracemalloc.start()
    start = time.perf_counter()
    with pytest.raises(FormatError, match=message) as caught:
        read_header(path)
    seconds = time.perf_counter() - start
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    assert seconds < 1
    assert peak < 100e6


def test_a_file_cut_anywhere_is_refused() -> None:
    for length in range(len(SOUND)):
        with pytest.raises(FormatError):
            parse(SOUND[:length])


@pytest.mark.parametrize("kind", ["missing", "empty", "folder", "pipe"])
def test_what_is_no_file_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "model.gguf"
    if kind == "empty":
        path.touch()
    elif kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    with pytest.raises(FormatError, match=r"does not exist|is empty|not a file") as caught:
        read_header(path)
    assert caught.value.path == path


@given(st.lists(st.tuples(st.integers(0, len(SOUND) - 1), st.integers(0, 255)), min_size=1, max_size=4))
@settings(max_examples=400, deadline=None)
def test_flipped_bytes_give_a_header_or_a_format_error(flips: list[tuple[int, int]]) -> None:
    data = bytearray(SOUND)
    for position, value in flips:
        data[position] = value
    try:
        header = parse(bytes(data))
    except FormatError:
        return
    assert all(t.offset + t.info.nbytes <= len(data) for t in header.tensors.values())


@given(
    position=st.integers(8, len(SOUND) - 8),
    value=st.one_of(st.integers(0, (1 << 64) - 1), st.sampled_from([HUGE, HUGE - 1, (1 << 64) - 1, 1 << 32])),
)
@settings(max_examples=400, deadline=None)
def test_hostile_counts_anywhere_give_a_header_or_a_format_error(position: int, value: int) -> None:
    data = SOUND[:position] + u64(value) + SOUND[position + 8 :]
    try:
        header = parse(data)
    except FormatError:
        return
    assert all(t.offset + t.info.nbytes <= len(data) for t in header.tensors.values())


@given(st.binary(max_size=200))
@settings(max_examples=200, deadline=None)
def test_noise_after_the_version_gives_a_header_or_a_format_error(noise: bytes) -> None:
    try:
        parse(SOUND[:8] + noise)
    except FormatError:
        return
