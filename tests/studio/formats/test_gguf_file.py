"""An opened GGUF model: its facts, its tensors, and what happens when its file changes under it."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from studio.contracts import BaseModel
from studio.errors import FormatError, UnsupportedError
from studio.formats import gguf_file
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf


@pytest.fixture
def small(tmp_path: Path) -> Path:
    path = tmp_path / "small.gguf"
    weights = {name: np.full((4, 8), value) for name, value in (("a", 1.0), ("b", 2.0))}
    write_gguf(path, {"general.architecture": "llama"}, weights, tensor_type="F16")
    return path


def test_a_real_model_tells_its_facts(smollm2_path: Path) -> None:
    model = GgufFile.open(smollm2_path)
    assert isinstance(model, BaseModel)
    assert model.name.startswith("Smollm2 135M")
    assert (model.architecture, model.file_type, model.file_size) == ("llama", "Q4_1", 98_362_432)
    assert model.metadata["llama.block_count"] == 30
    assert model.tensors["blk.29.ffn_down.weight"].shape == (576, 1536)


def test_tensors_of_a_real_model_equal_those_of_the_gguf_package(smollm2_path: Path) -> None:
    model = GgufFile.open(smollm2_path)
    for name in ("blk.0.attn_norm.weight", "blk.7.attn_k.weight", "blk.29.ffn_down.weight"):
        kind = GGML_TYPES_BY_NAME[model.tensors[name].type_name]
        expected = gguf.quants.dequantize(model.raw(name), gguf.GGMLQuantizationType(kind.number))
        np.testing.assert_array_equal(
            model.dense(name), expected.reshape(model.tensors[name].shape), strict=True
        )


def test_a_tensor_larger_than_a_chunk_is_read_whole(
    smollm2_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = GgufFile.open(smollm2_path)
    whole = model.dense("blk.0.ffn_up.weight")
    monkeypatch.setattr(gguf_file, "CHUNK_BYTES", 5000)
    np.testing.assert_array_equal(model.dense("blk.0.ffn_up.weight"), whole)
    monkeypatch.setattr(gguf_file, "CHUNK_BYTES", 1)
    np.testing.assert_array_equal(
        model.dense("blk.0.attn_k.weight")[:3], model.dense("blk.0.attn_k.weight")[:3]
    )


def test_raw_bytes_come_in_rows(small: Path) -> None:
    raw = GgufFile.open(small).raw("b")
    assert raw.shape == (4, 16)
    np.testing.assert_array_equal(raw.view(np.float16), np.full((4, 8), 2, np.float16))


def test_threads_may_read_at_once(small: Path) -> None:
    model = GgufFile.open(small)
    with ThreadPoolExecutor(4) as threads:
        for name, values in zip("ab" * 200, threads.map(model.dense, "ab" * 200), strict=True):
            assert values.min() == values.max() == (1 if name == "a" else 2)


def test_a_file_without_a_name_is_called_by_its_stem(small: Path) -> None:
    assert GgufFile.open(small).name == "small"


def test_a_tensor_that_the_file_lacks_is_named(small: Path) -> None:
    with pytest.raises(FormatError, match=r"small\.gguf: output\.weight: the file has no such tensor"):
        GgufFile.open(small).dense("output.weight")


def test_a_file_without_an_architecture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nameless.gguf"
    path.write_bytes(b"GGUF" + (3).to_bytes(4, "little") + bytes(16))
    with pytest.raises(FormatError, match=r"general\.architecture"):
        GgufFile.open(path)


def test_a_type_that_cannot_be_turned_into_numbers_is_named(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "odd.gguf", "llama")
    writer.add_tensor("a", np.zeros((2, 292), np.uint8), raw_dtype=gguf.GGMLQuantizationType.Q8_K)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    model = GgufFile.open(tmp_path / "odd.gguf")
    assert model.tensors["a"].shape == (2, 256)
    with pytest.raises(UnsupportedError, match=r"odd\.gguf: a: tensors of type Q8_K"):
        model.dense("a")


def replace(path: Path) -> None:
    other = path.with_name("other.gguf")
    other.write_bytes(path.read_bytes())
    os.replace(other, path)


def truncate(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 1)


def overwrite(path: Path) -> None:
    path.write_bytes(path.read_bytes())
    os.utime(path, ns=(0, 0))  # a clock too coarse to tell the two writes apart is no reason to fail


@pytest.mark.parametrize("change", [replace, truncate, overwrite, Path.unlink])
def test_a_file_that_changes_while_it_is_open_is_noticed(small: Path, change: Any) -> None:
    model = GgufFile.open(small)
    model.dense("a")
    change(small)
    with pytest.raises(FormatError, match=r"no longer what it was .* Open the model again"):
        model.dense("a")


def test_a_closed_model_keeps_its_index_but_reads_no_more(small: Path) -> None:
    model = GgufFile.open(small)
    model.close()
    assert list(model.tensors) == ["a", "b"]
    with pytest.raises(FormatError, match="closed"):
        model.raw("a")


def test_the_working_folder_may_change_under_a_relative_path(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(small.parent)
    model = GgufFile.open(Path("small.gguf"))
    monkeypatch.chdir("/")
    assert model.dense("a").shape == (4, 8)
