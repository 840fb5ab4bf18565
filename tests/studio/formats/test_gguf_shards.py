"""Models in several files: they open as one, by any of them, and what does not belong together is refused."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from studio.contracts import BaseModel
from studio.errors import FormatError
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_shards import ShardedGguf, open_gguf

NAMES = (
    "token_embd.weight",
    "blk.0.attn_q.weight",
    "blk.0.attn_k.weight",
    "blk.0.ffn_up.weight",
    "output.weight",
)


def write(
    folder: Path, stem: str = "model", *, names: tuple[str, ...] = NAMES, **splitting: Any
) -> list[Path]:
    """Write a small model with the gguf package, and return its files in order."""
    folder.mkdir(exist_ok=True)
    writer = gguf.GGUFWriter(folder / f"{stem}.gguf", "llama", **splitting)
    writer.add_block_count(1)
    writer.add_tokenizer_model("gpt2")
    random = np.random.default_rng(0)
    for name in names:
        writer.add_tensor(name, random.normal(size=(8, 32)).astype(np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return sorted(folder.glob(f"{stem}*.gguf"))


@pytest.fixture
def whole(tmp_path: Path) -> GgufFile:
    return GgufFile.open(write(tmp_path / "whole")[0])


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Three shards of two, two and one tensors."""
    paths = write(tmp_path / "shards", split_max_tensors=2)
    assert [path.name for path in paths] == [f"model-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    return paths


@pytest.mark.parametrize("opened_by", [0, 1, 2])
def test_any_shard_opens_the_whole_model(whole: GgufFile, shards: list[Path], opened_by: int) -> None:
    model = open_gguf(shards[opened_by])
    assert isinstance(model, BaseModel)
    assert (model.path, model.files) == (shards[0], tuple(shards))
    assert model.file_size == sum(path.stat().st_size for path in shards)
    assert (model.name, model.architecture, model.file_type) == ("model", "llama", "F16")
    assert dict(model.metadata) == dict(whole.metadata)
    assert dict(model.tensors) == dict(whole.tensors)
    for name in NAMES:
        np.testing.assert_array_equal(model.dense(name), whole.dense(name), strict=True)
        np.testing.assert_array_equal(model.raw(name), whole.raw(name), strict=True)


def test_the_first_shard_may_hold_metadata_alone(whole: GgufFile, tmp_path: Path) -> None:
    paths = write(tmp_path / "small", split_max_tensors=4, small_first_shard=True)
    model = open_gguf(paths[-1])
    assert not GgufFile.open(paths[0]).tensors
    assert dict(model.tensors) == dict(whole.tensors)


def test_a_model_in_one_file_is_opened_as_it_is(tmp_path: Path) -> None:
    model = open_gguf(write(tmp_path)[0])
    assert isinstance(model, GgufFile)
    assert model.files == (model.path,)


def test_a_file_that_was_joined_from_shards_is_one_file(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "joined.gguf", "llama")
    writer.add_uint16("split.count", 0)
    writer.add_tensor("a", np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    assert isinstance(open_gguf(tmp_path / "joined.gguf"), GgufFile)


def test_a_missing_shard_is_named(shards: list[Path]) -> None:
    shards[1].unlink()
    with pytest.raises(
        FormatError, match=r"model-00002-of-00003\.gguf: file 2 of the 3 .* missing\. Put all"
    ):
        open_gguf(shards[2])


def test_a_damaged_shard_is_named(shards: list[Path]) -> None:
    os.truncate(shards[2], 40)
    with pytest.raises(FormatError, match=r"model-00003-of-00003\.gguf"):
        open_gguf(shards[0])


def test_a_shard_with_a_name_of_its_own_does_not_tell_the_others(shards: list[Path]) -> None:
    renamed = shards[1].rename(shards[1].with_name("second.gguf"))
    with pytest.raises(FormatError, match=r"second\.gguf: split\.count: .* end in -00001-of-00003\.gguf"):
        open_gguf(renamed)


@pytest.mark.parametrize("name", ["model-00002-of-00004.gguf", "model-00009-of-00003.gguf"])
def test_a_name_that_contradicts_the_file_is_refused(shards: list[Path], name: str) -> None:
    renamed = shards[1].rename(shards[1].with_name(name))
    with pytest.raises(FormatError, match=rf"{name}: split\.count: its name says .* the file itself .* of 3"):
        open_gguf(renamed)


def test_shards_that_changed_places_are_refused(shards: list[Path]) -> None:
    shutil.copy(shards[2], shards[1])
    with pytest.raises(FormatError, match=r"00002-of-00003\.gguf: split\.no: it is 2 here, .* 1 is wanted"):
        open_gguf(shards[0])


def test_a_shard_of_a_model_with_more_of_them_is_refused(shards: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", split_max_tensors=1)
    shutil.copy(other[1], shards[1])
    with pytest.raises(FormatError, match=r"00002-of-00003\.gguf: split\.count: it is 5 here"):
        open_gguf(shards[0])


def test_a_shard_of_a_model_with_other_tensors_is_refused(shards: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", names=tuple("abcdef"), split_max_tensors=2)
    shutil.copy(other[1], shards[1])
    with pytest.raises(FormatError, match=r"00002-of-00003\.gguf: split\.tensors\.count: it is 6 here"):
        open_gguf(shards[0])


def test_a_tensor_in_two_shards_is_refused(shards: list[Path], tmp_path: Path) -> None:
    other = write(tmp_path / "other", names=("a", "b", NAMES[0], "d", "e"), split_max_tensors=2)
    shutil.copy(other[1], shards[1])
    with pytest.raises(
        FormatError, match=rf"00002-of.*: {NAMES[0]}: the tensor is in model-00001-of.* as well"
    ):
        open_gguf(shards[0])


def test_too_few_tensors_are_refused(shards: list[Path]) -> None:
    key = b"split.tensors.count"
    for path in shards:
        content = bytearray(path.read_bytes())
        value = content.index(key) + len(key) + 4  # after the value's type
        content[value] = 6
        path.write_bytes(content)
    with pytest.raises(
        FormatError, match=r"00001-of-00003\.gguf: split\.tensors\.count: .* hold 5 .* hold 6"
    ):
        open_gguf(shards[0])


def test_a_shard_that_changes_while_the_model_is_open_is_noticed(shards: list[Path]) -> None:
    model = open_gguf(shards[0])
    os.utime(shards[1], ns=(0, 0))
    assert model.dense(NAMES[0]).shape == (8, 32)
    with pytest.raises(FormatError, match=r"00002-of-00003\.gguf: .* no longer what it was"):
        model.dense(NAMES[2])


def test_closing_lets_go_of_every_shard(shards: list[Path]) -> None:
    model = open_gguf(shards[1])
    model.close()
    for name in NAMES:
        with pytest.raises(FormatError, match="closed"):
            model.raw(name)


def test_a_tensor_that_no_shard_has_is_named(shards: list[Path]) -> None:
    model = open_gguf(shards[1])
    assert isinstance(model, ShardedGguf)
    with pytest.raises(FormatError, match=r"00001-of-00003\.gguf: nowhere: the file has no such tensor"):
        model.dense("nowhere")
