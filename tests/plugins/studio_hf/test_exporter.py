"""The merged folder holds the base with the blend in it, by Hugging Face's names."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import (
    Adapter,
    ExportRequest,
    GgufFile,
    LoraFactors,
    UnsupportedError,
    gguf_module,
    read_safetensors,
    rows_to_gguf,
)
from studio.lora.stack import LoraStack
from studio_hf.exporter import HuggingFaceExporter, HuggingFaceOptions
from studio_hf.rope import llama3_scaling

Open = Callable[[str], GgufFile]


@pytest.fixture
def open_base(data_dir: Path) -> Iterator[Open]:
    opened: list[GgufFile] = []

    def open_(name: str) -> GgufFile:
        opened.append(GgufFile.open(data_dir / "architectures" / f"{name}.gguf"))
        return opened[-1]

    yield open_
    for base in opened:
        base.close()


def adapter_on(base: GgufFile, *modules: str) -> LoraStack:
    rng = np.random.default_rng(0)
    factors = {}
    for module in modules:
        stored = module if module in base.tensors else "token_embd.weight"
        *experts, out, inputs = base.tensors[stored].shape
        a = rng.standard_normal((*experts, 2, inputs), np.float32)
        factors[module] = LoraFactors(a, rng.standard_normal((*experts, out, 2), np.float32), 2.0)
    stack = LoraStack()
    stack.push(Adapter("random", factors), 0.5)
    return stack


def export(base: GgufFile, stack: LoraStack, path: Path, **options: Any) -> Any:
    request = ExportRequest(base, stack.by_key, stack.blend)
    work = HuggingFaceExporter().export(request, path, HuggingFaceOptions(**({"type": "F32"} | options)))
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def config_of(path: Path) -> Any:
    return json.loads((path / "config.json").read_text(encoding="utf-8"))


def adapted_by(stack: LoraStack) -> Mapping[str, LoraFactors]:
    ((adapter, _),) = stack.entries
    assert isinstance(adapter, Adapter)
    return adapter.factors


def merged(base: GgufFile, stack: LoraStack, module: str, stored: str | None = None) -> Any:
    pair = adapted_by(stack)[module]
    return base.dense(stored or module) + 0.5 * pair.scaling * (pair.b @ pair.a)


def test_merged_weights_lead_back_to_the_bases(open_base: Open, tmp_path: Path) -> None:
    base = open_base("llama")
    stack = adapter_on(base, "blk.0.attn_q.weight", "blk.1.ffn_down.weight")
    export(base, stack, tmp_path / "hf")
    tensors = read_safetensors(tmp_path / "hf" / "model.safetensors")
    assert len(tensors) == len(base.tensors) - 1  # the factors of RoPE are in the configuration
    for name, values in tensors.items():
        module = gguf_module(name.removesuffix(".weight"), "llama")
        assert module is not None
        for target, heads in (("attn_q", 4), ("attn_k", 2)):
            if target in module:
                values = rows_to_gguf(values, heads)
        adapted = module in adapted_by(stack)
        wanted = merged(base, stack, module) if adapted else base.dense(module)
        np.testing.assert_allclose(values, wanted, rtol=1e-6, atol=1e-6)


def test_large_models_are_cut_into_files_with_an_index(open_base: Open, tmp_path: Path) -> None:
    base = open_base("llama")
    export(base, adapter_on(base, "blk.0.attn_q.weight"), tmp_path / "hf", shard_gigabytes=0.0001)
    index = json.loads((tmp_path / "hf" / "model.safetensors.index.json").read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    total = 0
    for path in sorted((tmp_path / "hf").glob("*.safetensors")):
        tensors = read_safetensors(path)
        assert path.stat().st_size < 100_000 + 4096 or len(tensors) == 1
        total += sum(values.nbytes for values in tensors.values())
        found |= dict.fromkeys(tensors, path.name)
    assert len(set(found.values())) > 1
    assert index == {"metadata": {"total_size": total}, "weight_map": found}
    numbers = [
        f"{number:05}-of-{len(set(found.values())):05}" for number in range(1, len(set(found.values())) + 1)
    ]
    assert sorted(set(found.values())) == [f"model-{number}.safetensors" for number in numbers]


def test_experts_are_written_one_by_one(open_base: Open, tmp_path: Path) -> None:
    base = open_base("qwen3moe")
    stack = adapter_on(base, "blk.1.ffn_up_exps.weight")
    export(base, stack, tmp_path / "hf")
    tensors = read_safetensors(tmp_path / "hf" / "model.safetensors")
    wanted = merged(base, stack, "blk.1.ffn_up_exps.weight")
    assert len(wanted) == 6
    for expert, weight in enumerate(wanted):
        found = tensors[f"model.layers.1.mlp.experts.{expert}.up_proj.weight"]
        np.testing.assert_allclose(found, weight, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("module", "tied"),
    [("blk.0.attn_q.weight", True), ("output.weight", False), ("token_embd.weight", False)],
)
def test_an_adapter_on_a_tied_pair_parts_the_two(
    open_base: Open, tmp_path: Path, module: str, tied: bool
) -> None:
    base = open_base("qwen2")
    stack = adapter_on(base, module)
    export(base, stack, tmp_path / "hf")
    assert config_of(tmp_path / "hf")["tie_word_embeddings"] is tied
    tensors = read_safetensors(tmp_path / "hf" / "model.safetensors")
    assert ("lm_head.weight" in tensors) is not tied
    if not tied:
        plain = base.dense("token_embd.weight")
        changed = merged(base, stack, module, "token_embd.weight")
        names = ["model.embed_tokens.weight", "lm_head.weight"]
        for name, wanted in zip(
            names, (changed, plain) if module != "output.weight" else (plain, changed), strict=True
        ):
            np.testing.assert_allclose(tensors[name], wanted, rtol=1e-6, atol=1e-6)


def test_the_tokenizer_goes_along_where_it_can_be_told(open_base: Open, tmp_path: Path) -> None:
    base = open_base("llama")
    assert export(base, adapter_on(base, "blk.0.attn_q.weight"), tmp_path / "bpe").notes == ()
    assert (tmp_path / "bpe" / "tokenizer.json").exists()
    assert config_of(tmp_path / "bpe")["torch_dtype"] == "float32"


def test_what_cannot_be_told_is_refused_by_name(open_base: Open, tmp_path: Path) -> None:
    olmo3, stablelm = open_base("olmo3"), open_base("stablelm-parallel")
    with pytest.raises(UnsupportedError, match="leaves out how its positions are scaled"):
        export(olmo3, adapter_on(olmo3, "blk.0.attn_q.weight"), tmp_path / "hf")
    with pytest.raises(UnsupportedError, match="has no tensor for it") as caught:
        export(stablelm, adapter_on(stablelm, "blk.0.attn_q.weight"), tmp_path / "hf")
    assert caught.value.where == "blk.0.attn_k_norm.weight"
    assert list(tmp_path.iterdir()) == []


def factors_of(factor: float, original: int, theta: float, rotated: int) -> Any:
    """Compute Llama 3's factors as transformers does."""
    lengths = 2 * np.pi * theta ** (np.arange(0, rotated, 2) / rotated)
    smooth = np.clip((original / lengths - 1.0) / 3.0, 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


@pytest.mark.parametrize("factor", [8.0, 32.0])
def test_the_scaling_of_llama_3_is_found_by_its_factors(factor: float) -> None:
    found = llama3_scaling(factors_of(factor, 8192, 500000.0, 128), 500000.0, 128, 131072)
    assert found == {
        "rope_type": "llama3",
        "factor": factor,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    }
    assert llama3_scaling(np.linspace(1, 8, 64, dtype=np.float32), 500000.0, 128, 131072) is None
    assert llama3_scaling(np.ones(64, np.float32), 500000.0, 128, 131072) is None
