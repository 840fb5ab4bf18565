"""llama.cpp's adapter files become adapters; models do not."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFWriter, quants

from studio.api import Adapter, FormatError, GgufFile, MismatchError, UnsupportedError
from studio.lora.report import bind
from studio_gguf.adapter import GgufAdapterLoader, GgufAdapterOptions
from studio_gguf.base import GgufBaseLoader, GgufBaseOptions

Arrays = dict[str, np.ndarray[Any, Any]]
SmallBase = Callable[..., GgufFile]
WriteAdapter = Callable[..., Path]

V = "blk.1.attn_v.weight"


def value_tensors(rank: int = 2) -> Arrays:
    rng = np.random.default_rng(0)
    return {
        f"{V}.lora_a": rng.standard_normal((rank, 16), np.float32),
        f"{V}.lora_b": rng.standard_normal((8, rank), np.float32),
    }


def load(path: Path) -> Adapter:
    return GgufAdapterLoader().load(path, None, GgufAdapterOptions())


def test_a_file_of_llama_cpps_converter(data_dir: Path, smollm2: GgufFile) -> None:
    adapter, report = bind(load(data_dir / "smollm2-fortune-f16.gguf"), smollm2)
    assert (report.name, report.format) == ("Peft Smol Fortune", "llama.cpp GGUF adapter")
    assert (report.modules, report.matched, report.covered) == (210, 210, 210)
    assert (report.ranks, report.alphas, report.notes) == ((8,), (16.0,), ())
    assert adapter.architecture == "llama"


def test_a_pair_is_read_as_it_stands(write_gguf_adapter: WriteAdapter, tmp_path: Path) -> None:
    path = write_gguf_adapter(tmp_path / "legal.gguf", value_tensors())
    adapter = load(path)
    factors = adapter.factors[V]
    np.testing.assert_array_equal(factors.a, value_tensors()[f"{V}.lora_a"])
    np.testing.assert_array_equal(factors.b, value_tensors()[f"{V}.lora_b"])
    assert factors.scaling == 2
    assert (adapter.name, adapter.source) == ("legal", path)


@pytest.mark.parametrize("alpha", [None, 0.0])
def test_without_an_alpha_the_scale_is_1_and_a_note_says_so(
    write_gguf_adapter: WriteAdapter, tmp_path: Path, alpha: float | None
) -> None:
    adapter = load(
        write_gguf_adapter(tmp_path / "legal.gguf", value_tensors(), {"adapter.lora.alpha": alpha})
    )
    assert adapter.factors[V].scaling == 1
    assert "adapter.lora.alpha is missing or 0" in adapter.notes[0]


def test_embeddings_are_the_other_way_up(
    write_gguf_adapter: WriteAdapter, small_base: SmallBase, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((32, 2), np.float32), rng.standard_normal((16, 2), np.float32)
    tensors = {"token_embd.weight.lora_a": a, "token_embd.weight.lora_b": b}
    adapter, _ = bind(load(write_gguf_adapter(tmp_path / "legal.gguf", tensors)), small_base())
    factors = adapter.factors["token_embd.weight"]
    np.testing.assert_array_equal(factors.b @ factors.a, a @ b.T)  # (vocab, embd), as the base has it


def test_quantised_factors_are_dequantised(tmp_path: Path) -> None:
    path = tmp_path / "legal.gguf"
    writer = GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    q8_0 = GGMLQuantizationType.Q8_0
    rng = np.random.default_rng(0)
    a = quants.quantize(rng.standard_normal((32, 64), np.float32), q8_0)
    b = quants.quantize(rng.standard_normal((8, 32), np.float32), q8_0)
    writer.add_tensor(f"{V}.lora_a", a, raw_dtype=q8_0)
    writer.add_tensor(f"{V}.lora_b", b, raw_dtype=q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    factors = load(path).factors[V]
    np.testing.assert_array_equal(factors.a, quants.dequantize(a, q8_0))
    np.testing.assert_array_equal(factors.b, quants.dequantize(b, q8_0))


def test_a_rank_of_1_may_lack_its_dimension(write_gguf_adapter: WriteAdapter, tmp_path: Path) -> None:
    tensors = value_tensors(rank=1)
    tensors[f"{V}.lora_a"] = tensors[f"{V}.lora_a"][0]
    factors = load(write_gguf_adapter(tmp_path / "legal.gguf", tensors)).factors[V]
    assert (factors.rank, factors.shape) == (1, (8, 16))


def test_norm_weights_are_told_and_not_applied(
    write_gguf_adapter: WriteAdapter, small_base: SmallBase, tmp_path: Path
) -> None:
    extra = {"blk.0.attn_norm.weight": np.ones(16, np.float32), "strange": np.ones(4, np.float32)}
    adapter, report = bind(
        load(write_gguf_adapter(tmp_path / "legal.gguf", value_tensors() | extra)), small_base()
    )
    assert adapter.modules == (V,)
    assert report.unmatched == ("strange",)
    assert (report.modules, report.matched) == (2, 1)
    notes = " ".join(report.notes)
    assert "blk.0.attn_norm.weight" in notes
    assert "strange" in notes


def test_experts_have_a_pair_each(
    write_gguf_adapter: WriteAdapter, small_base: SmallBase, tmp_path: Path
) -> None:
    experts = "blk.1.ffn_up_exps.weight"
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 2, 16), np.float32), rng.standard_normal((3, 24, 2), np.float32)
    tensors = {f"{experts}.lora_a": a, f"{experts}.lora_b": b}
    adapter, report = bind(load(write_gguf_adapter(tmp_path / "legal.gguf", tensors)), small_base())
    assert (adapter.rank(experts), adapter.factors[experts].scaling) == (2, 2)
    assert report.norms[experts] == pytest.approx(np.linalg.norm(2 * b @ a), rel=1e-6)


@pytest.mark.parametrize("half", ["a", "b"])
def test_half_a_pair_is_refused_by_tensor(
    write_gguf_adapter: WriteAdapter, tmp_path: Path, half: str
) -> None:
    tensors = value_tensors()
    del tensors[f"{V}.lora_{half}"]
    with pytest.raises(FormatError, match="half of the pair") as caught:
        load(write_gguf_adapter(tmp_path / "legal.gguf", tensors))
    assert caught.value.where == f"{V}.lora_{'b' if half == 'a' else 'a'}"


def test_factors_that_are_no_pair_are_refused(write_gguf_adapter: WriteAdapter, tmp_path: Path) -> None:
    tensors = value_tensors() | {f"{V}.lora_b": np.ones((8, 3), np.float32)}
    with pytest.raises(FormatError, match="no pair") as caught:
        load(write_gguf_adapter(tmp_path / "legal.gguf", tensors))
    assert caught.value.where == V


@pytest.mark.parametrize("alpha", [np.inf, -1.0, "8", True])
def test_an_alpha_that_is_no_number_from_0_is_refused(
    write_gguf_adapter: WriteAdapter, tmp_path: Path, alpha: object
) -> None:
    path = write_gguf_adapter(tmp_path / "legal.gguf", value_tensors(), {"adapter.lora.alpha": alpha})
    with pytest.raises(FormatError, match="alpha is") as caught:
        load(path)
    assert caught.value.where == "adapter.lora.alpha"


def test_an_alpha_that_is_nan_is_refused(write_gguf_adapter: WriteAdapter, tmp_path: Path) -> None:
    path = write_gguf_adapter(tmp_path / "legal.gguf", value_tensors(), {"adapter.lora.alpha": 1234.5})
    path.write_bytes(path.read_bytes().replace(struct.pack("<f", 1234.5), struct.pack("<f", np.nan)))
    with pytest.raises(FormatError, match="alpha is nan"):
        load(path)


@pytest.mark.parametrize(
    ("metadata", "error"),
    [
        ({"general.type": "model"}, FormatError),
        ({"adapter.type": "control_vector"}, UnsupportedError),
        ({"adapter.type": None}, UnsupportedError),
        ({"adapter.alora.invocation_tokens": np.array([1, 2], np.uint32)}, UnsupportedError),
    ],
)
def test_what_is_no_plain_lora_is_refused_by_key(
    write_gguf_adapter: WriteAdapter, tmp_path: Path, metadata: dict[str, Any], error: type[FormatError]
) -> None:
    with pytest.raises(error) as caught:
        load(write_gguf_adapter(tmp_path / "legal.gguf", value_tensors(), metadata))
    assert caught.value.where == next(iter(metadata))
    assert caught.value.remedy


def test_another_architecture_does_not_bind(
    write_gguf_adapter: WriteAdapter, small_base: SmallBase, tmp_path: Path
) -> None:
    path = write_gguf_adapter(tmp_path / "legal.gguf", value_tensors(), {"general.architecture": "qwen2"})
    with pytest.raises(MismatchError, match="qwen2"):
        bind(load(path), small_base())


def test_models_and_adapters_are_told_apart(data_dir: Path, smollm2_path: Path, adapters_dir: Path) -> None:
    models, adapters = GgufBaseLoader(), GgufAdapterLoader()
    adapter = data_dir / "smollm2-fortune-f16.gguf"
    assert (models.recognises(smollm2_path), adapters.recognises(smollm2_path)) == (True, False)
    assert (models.recognises(adapter), adapters.recognises(adapter)) == (False, True)
    for other in (adapters_dir / "smollm2-legal", data_dir / "README.md", data_dir / "nothing", Path("\0")):
        assert not models.recognises(other)
        assert not adapters.recognises(other)


def test_an_adapter_does_not_open_as_a_base(data_dir: Path) -> None:
    with pytest.raises(FormatError, match="this is an adapter"):
        GgufBaseLoader().load(data_dir / "smollm2-fortune-f16.gguf", GgufBaseOptions())


def test_a_model_opens_with_its_name_and_index(smollm2_path: Path) -> None:
    base = GgufBaseLoader().load(smollm2_path, GgufBaseOptions())
    assert (base.architecture, base.file_type) == ("llama", "Q4_1")
    assert base.tensors["blk.0.attn_k.weight"].shape == (192, 576)
    base.close()


def test_every_file_of_a_split_model_is_recognised_and_opens_it_whole(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "split.gguf", "llama", split_max_tensors=1)
    for name in ("a", "b", "c"):
        writer.add_tensor(name, np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    for path in sorted(tmp_path.iterdir()):
        assert GgufBaseLoader().recognises(path)
        base = GgufBaseLoader().load(path, GgufBaseOptions())
        assert list(base.tensors) == ["a", "b", "c"]
        assert len(base.files) == 3
        base.close()


def test_a_file_that_is_cut_is_recognised_so_that_loading_tells_why(data_dir: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.gguf"
    path.write_bytes((data_dir / "smollm2-fortune-f16.gguf").read_bytes()[:5000])
    assert GgufBaseLoader().recognises(path)
    assert GgufAdapterLoader().recognises(path)
    with pytest.raises(FormatError):
        load(path)
    with pytest.raises(FormatError):
        GgufBaseLoader().load(path, GgufBaseOptions())
