"""Writing GGUF: what is written reads back the same, here and in `gguf`; what fails leaves nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from studio.errors import SaveError
from studio.formats import gguf_stream
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_header import read_header
from studio.formats.gguf_writer import write_gguf, write_gguf_in_steps

METADATA: dict[str, Any] = {
    "general.type": "adapter",
    "general.architecture": "llama",
    "general.name": "fortune × legal",
    "empty": "",
    "adapter.lora.alpha": 16.3,
    "count": 2**32 - 1,
    "truth": True,
    "texts": ["a", "", "ü"],
    "uint8": np.uint8(200),
    "int16": np.int16(-3),
    "int32": np.int32(-3),
    "uint64": np.uint64(2**63),
    "int64": np.int64(-(2**62)),
    "float64": np.float64(0.1),
    "numbers": np.array([1.5, -2], np.float32),
    "tokens": np.arange(5, dtype=np.uint32),
    "truths": np.array([True, False]),
}


@pytest.fixture
def tensors() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(1)
    return {
        "blk.0.attn_q.weight.lora_a": random.standard_normal((3, 5), np.float32),
        "blk.0.attn_q.weight.lora_b": random.standard_normal((7, 3), np.float32).T.copy().T,  # not contiguous
        "blk.0.attn_norm.weight": random.standard_normal(5),
    }


def test_what_is_written_reads_back_the_same(
    tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    path = tmp_path / "blend.gguf"
    write_gguf(path, METADATA, tensors)
    model = GgufFile.open(path)
    assert model.header.version == 3
    assert model.metadata.keys() == METADATA.keys()
    for key, value in METADATA.items():
        stored = model.metadata[key]
        if isinstance(value, np.ndarray):
            assert isinstance(stored, np.ndarray)
            assert stored.dtype == value.dtype
            np.testing.assert_array_equal(stored, value)
        else:
            assert stored == (pytest.approx(value) if isinstance(value, float) else value), key
    assert list(model.tensors) == list(tensors)
    for name, values in tensors.items():
        np.testing.assert_array_equal(model.dense(name), values.astype(np.float32))


@pytest.mark.parametrize("tensor_type", ["F32", "F16"])
def test_the_gguf_package_reads_the_same(
    tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]], tensor_type: Any
) -> None:
    path = tmp_path / "blend.gguf"
    write_gguf(path, METADATA, tensors, tensor_type=tensor_type)
    reader = gguf.GGUFReader(path)
    dtype = np.float32 if tensor_type == "F32" else np.float16
    for tensor in reader.tensors:
        assert tensor.tensor_type.name == tensor_type
        np.testing.assert_array_equal(tensor.data, tensors[tensor.name].astype(dtype))
    types = {key: [kind.name for kind in field.types] for key, field in reader.fields.items()}
    assert types["general.architecture"] == ["STRING"]
    assert types["adapter.lora.alpha"] == ["FLOAT32"]
    assert types["count"] == ["UINT32"]
    assert types["truth"] == ["BOOL"]
    assert types["texts"] == ["ARRAY", "STRING"]
    assert types["uint64"] == ["UINT64"]
    assert types["tokens"] == ["ARRAY", "UINT32"]
    assert reader.fields["general.name"].contents() == "fortune × legal"


def test_the_alignment_asked_for_is_kept(tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    path = tmp_path / "blend.gguf"
    write_gguf(path, {**METADATA, "general.alignment": 256}, tensors)
    header = read_header(path)
    assert header.alignment == 256
    assert all(tensor.offset % 256 == 0 for tensor in header.tensors.values())


def test_values_beyond_float16_are_counted(tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    tensors["blk.0.attn_q.weight.lora_b"][:2, 0] = 65_520  # the first that rounds to infinity
    tensors["blk.0.attn_q.weight.lora_b"][2, 0] = 65_519
    with pytest.raises(SaveError, match=r"lora_b: 2 of 21 values are too large for F16\. Save as F32"):
        write_gguf(tmp_path / "blend.gguf", METADATA, tensors, tensor_type="F16")
    assert os.listdir(tmp_path) == []
    write_gguf(tmp_path / "blend.gguf", METADATA, tensors, tensor_type="F32")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weights_that_are_not_finite_are_counted(
    tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]], bad: float
) -> None:
    tensors["blk.0.attn_q.weight.lora_a"][1, 1] = bad
    with pytest.raises(SaveError, match="lora_a: 1 of 15 values are not finite"):
        write_gguf(tmp_path / "blend.gguf", METADATA, tensors)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("negative", -1),
        ("large", 2**32),
        ("nothing", None),
        ("mixed", ["a", 1]),
        ("empty", []),
        ("no_numbers", np.zeros(0)),
        ("matrix", np.zeros((2, 2))),
        ("complex", np.zeros(2, np.complex64)),
    ],
)
def test_a_value_that_gguf_cannot_hold_is_named(tmp_path: Path, key: str, value: Any) -> None:
    with pytest.raises(SaveError, match=f"{key}: the value cannot be stored"):
        write_gguf(tmp_path / "blend.gguf", {"general.architecture": "llama", key: value}, {})


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x" * 64, np.zeros(2)),
        ("", np.zeros(2)),
        ("scalar", np.zeros(())),
        ("empty", np.zeros((2, 0))),
        ("deep", np.zeros((1, 1, 1, 1, 1))),
        ("whole", np.zeros(2, np.int32)),
    ],
)
def test_a_tensor_that_gguf_cannot_hold_is_named(tmp_path: Path, name: str, values: Any) -> None:
    with pytest.raises(SaveError) as caught:
        write_gguf(tmp_path / "blend.gguf", METADATA, {name: values})
    assert caught.value.where == name
    assert os.listdir(tmp_path) == []


def test_without_an_architecture_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match=r"general\.architecture"):
        write_gguf(tmp_path / "blend.gguf", {}, {})


def test_closing_the_work_at_any_step_leaves_the_target_as_it_was(
    tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    path = tmp_path / "blend.gguf"
    path.write_bytes(b"old")
    messages = [step.message.split()[0] for step in write_gguf_in_steps(tmp_path / "x", METADATA, tensors)]
    assert messages == ["Checking"] * 3 + ["Writing"] * 3 + ["Waiting", "Verifying", "Written"]
    (tmp_path / "x").unlink()
    for stop_at in range(len(messages) - 1):
        work = write_gguf_in_steps(path, METADATA, tensors)
        for _ in range(stop_at + 1):
            next(work)
        work.close()
        assert os.listdir(tmp_path) == [path.name]
        assert path.read_bytes() == b"old"


def test_a_byte_that_flips_on_the_way_to_the_disk_is_noticed(
    tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]]
) -> None:
    path = tmp_path / "blend.gguf"
    for step in (work := write_gguf_in_steps(path, METADATA, tensors)):
        if step.message.startswith("Verifying"):
            break
    (temporary,) = tmp_path.iterdir()
    content = bytearray(temporary.read_bytes())
    content[read_header(temporary).data_offset] ^= 1
    temporary.write_bytes(content)
    with pytest.raises(SaveError, match="reads back differently"):
        list(work)
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize(
    ("written", "found"),
    [(b"fortune", b"misfort"), (b"truths", b"untrue"), (b"attn_norm", b"attn_none"), (b"GGUF", b"GGML")],
)
def test_a_header_that_changes_on_the_way_to_the_disk_is_noticed(
    tmp_path: Path,
    tensors: dict[str, np.ndarray[Any, Any]],
    monkeypatch: pytest.MonkeyPatch,
    written: bytes,
    found: bytes,
) -> None:
    def flush(path: Path) -> None:
        path.write_bytes(path.read_bytes().replace(written, found))

    monkeypatch.setattr(gguf_stream, "flush_to_disk", flush)
    with pytest.raises(SaveError, match=r"blend\.gguf: .*reads back differently.*Save again"):
        write_gguf(tmp_path / "blend.gguf", METADATA, tensors)
    assert os.listdir(tmp_path) == []


def test_a_file_in_use_is_refused(tmp_path: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    path = tmp_path / "base.gguf"
    write_gguf(path, METADATA, tensors)
    before = path.read_bytes()
    with pytest.raises(SaveError, match="in use"):
        write_gguf(path, METADATA, {}, protected=[path])
    assert path.read_bytes() == before


SMALL_DISK = """
import resource, sys
from pathlib import Path
import numpy as np
from studio.errors import SaveError
from studio.formats.gguf_writer import write_gguf
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    write_gguf(Path(sys.argv[1]), {"general.architecture": "llama"}, {"a": np.ones(999), "b": np.ones(999)})
except SaveError as error:
    print(error)
"""


@pytest.mark.parametrize("limit", [10, 4090, 8000])
def test_a_disk_that_is_full_at_any_write_leaves_the_target_as_it_was(tmp_path: Path, limit: int) -> None:
    path = tmp_path / "blend.gguf"
    path.write_bytes(b"old")
    command = [sys.executable, "-c", SMALL_DISK, str(path), str(limit)]
    output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "blend.gguf: the file could not be written: File too large" in output
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == [path.name]
