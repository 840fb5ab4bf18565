"""Writing a GGUF file piece by piece: in any order, whole or not at all, and as the gguf package reads it."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from studio.errors import SaveError
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_packing import pack_metadata
from studio.formats.gguf_stream import GgufStream, TensorSlot, streaming_gguf
from studio.formats.quantise import quantise

METADATA: dict[str, Any] = {
    "general.architecture": "llama",
    "general.alignment": 64,
    "texts": ["a", "ü"],
    "tokens": np.arange(5, dtype=np.int32),
    "truth": True,
    "half": 0.5,
    "small": np.int8(-3),
}
ROWS = np.random.default_rng(0).standard_normal((6, 32), np.float32)
SLOTS = {"b.weight": TensorSlot((6, 32), "Q4_1"), "a": TensorSlot((3,), "F32")}


def values() -> dict[str, bytes]:
    return {key: packed.to_bytes() for key, packed in pack_metadata(METADATA, Path("x")).items()}


def fill(stream: GgufStream) -> None:
    stored = quantise(ROWS, "Q4_1")
    stream.put("b.weight", 4, stored[4:])
    stream.put("a", 0, np.arange(3, dtype=np.float32))
    stream.put("b.weight", 0, stored[:4])


def test_pieces_come_in_any_order(tmp_path: Path) -> None:
    path = tmp_path / "out.gguf"
    with streaming_gguf(path, values(), SLOTS, alignment=64) as stream:
        fill(stream)
        list(stream.verify())
    model = GgufFile.open(path)
    assert list(model.tensors) == ["b.weight", "a"]
    np.testing.assert_array_equal(model.raw("b.weight"), quantise(ROWS, "Q4_1"))
    np.testing.assert_array_equal(model.raw_rows("b.weight", slice(2, 5)), quantise(ROWS, "Q4_1")[2:5])
    np.testing.assert_array_equal(model.dense("a"), [0, 1, 2])
    assert model.header.alignment == 64
    model.close()
    reader = gguf.GGUFReader(path)
    assert [(tensor.name, tensor.tensor_type.name) for tensor in reader.tensors] == [
        ("b.weight", "Q4_1"),
        ("a", "F32"),
    ]
    assert reader.fields["small"].contents() == -3
    assert reader.fields["texts"].contents() == ["a", "ü"]
    assert reader.fields["tokens"].contents() == [0, 1, 2, 3, 4]


def test_values_of_another_file_are_copied_to_the_bit(tmp_path: Path) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    with streaming_gguf(first, values(), SLOTS, alignment=64) as stream:
        fill(stream)
        list(stream.verify())
    model = GgufFile.open(first)
    copied = {key: model.raw_metadata(key) for key in model.metadata}
    assert copied == values()
    with streaming_gguf(second, copied, SLOTS, alignment=64) as stream:
        fill(stream)
        list(stream.verify())
    model.close()
    assert first.read_bytes() == second.read_bytes()


def test_what_ends_early_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "out.gguf"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError), streaming_gguf(path, values(), SLOTS, alignment=64) as stream:
        fill(stream)
        raise RuntimeError
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.gguf"]


def test_a_tensor_that_is_not_whole_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "out.gguf"
    with (
        pytest.raises(ValueError, match="not whole"),
        streaming_gguf(path, values(), SLOTS, alignment=64) as stream,
    ):
        stream.put("a", 0, np.arange(3, dtype=np.float32))
        list(stream.verify())
    assert not path.exists()


@pytest.mark.parametrize("first_row", [-1, 5])
def test_a_piece_outside_its_tensor_is_refused(tmp_path: Path, first_row: int) -> None:
    with (
        pytest.raises(ValueError, match=r"no part of b\.weight"),
        streaming_gguf(tmp_path / "out.gguf", values(), SLOTS, alignment=64) as stream,
    ):
        stream.put("b.weight", first_row, quantise(ROWS[:2], "Q4_1"))


def test_a_disk_that_forgets_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "out.gguf"
    with (
        pytest.raises(SaveError, match="reads back differently"),
        streaming_gguf(path, values(), SLOTS, alignment=64) as stream,
    ):
        fill(stream)
        (part,) = tmp_path.glob(".*.part")
        with part.open("r+b") as file:
            file.seek(-100, os.SEEK_END)  # inside of the first tensor
            file.write(b"\xff\xfe")
        list(stream.verify())
    assert not path.exists()


def test_a_disk_without_room_is_told_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 10

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage)
    with (
        pytest.raises(SaveError, match="0 MB free"),
        streaming_gguf(tmp_path / "out.gguf", values(), SLOTS, alignment=64),
    ):
        pass
    assert os.listdir(tmp_path) == []
