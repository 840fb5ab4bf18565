"""Bare safetensors: whose keys they are, and the alpha that somebody has to say."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.api import DoraAdapter, FormatError, GgufFile, UnsupportedError
from studio.lora.report import bind
from studio_safetensors.loader import SafetensorsLoader, SafetensorsOptions

SmallBase = Callable[..., GgufFile]

RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 16), np.float32), RNG.standard_normal((8, 2), np.float32)
V = "base_model.model.model.layers.1.self_attn.v_proj"
VALUE = {f"{V}.lora_A.weight": A, f"{V}.lora_B.weight": B}


def load(path: Path, base: GgufFile | None = None, alpha: float = 4.0) -> Any:
    return SafetensorsLoader().load(path, base, SafetensorsOptions(alpha=alpha))


def write(path: Path, tensors: dict[str, Any]) -> Path:
    save_file(tensors, path)
    return path


def test_alpha_is_asked_for(tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", VALUE)
    with pytest.raises(FormatError, match="which alpha") as caught:
        load(path, alpha=0.0)
    assert caught.value.where == "alpha"
    assert "--alpha" in str(caught.value.remedy)
    assert load(path, alpha=6.0).factors["blk.1.attn_v.weight"].scaling == 3
    assert [finding.topic for finding in load(path).findings] == ["no-alpha"]


@pytest.mark.parametrize(
    "halves",
    [
        (("model.embed_tokens.lora_embedding_A", (2, 32)), ("model.embed_tokens.lora_embedding_B", (16, 2))),
        (("model.embed_tokens.lora_a", (32, 2)), ("model.embed_tokens.lora_b", (2, 16))),
        (("token_embd.weight.lora_a", (32, 2)), ("token_embd.weight.lora_b", (16, 2))),
    ],
    ids=["PEFT", "MLX", "llama.cpp"],
)
def test_embeddings_lie_as_each_program_has_them(small_base: SmallBase, tmp_path: Path, halves: Any) -> None:
    vocabulary, width = RNG.standard_normal((32, 2), np.float32), RNG.standard_normal((2, 16), np.float32)
    lying = {(32, 2): vocabulary, (2, 32): vocabulary.T, (2, 16): width, (16, 2): width.T}
    tensors = {key: np.ascontiguousarray(lying[shape]) for key, shape in halves}
    adapter, _ = bind(load(write(tmp_path / "a.safetensors", tensors), small_base(), alpha=2.0), small_base())
    factors = adapter.factors["token_embd.weight"]
    np.testing.assert_allclose(factors.b @ factors.a, vocabulary @ width, rtol=1e-5)


def test_a_magnitude_makes_it_dora(small_base: SmallBase, tmp_path: Path) -> None:
    path = write(tmp_path / "a.safetensors", VALUE | {f"{V}.lora_magnitude_vector": np.ones(8, np.float32)})
    assert isinstance(load(path, small_base()), DoraAdapter)


def test_its_files_configuration_beside_it_makes_it_a_directorys(tmp_path: Path) -> None:
    path = write(tmp_path / "adapter_model.safetensors", VALUE)
    assert SafetensorsLoader().recognises(path)
    (tmp_path / "adapter_config.json").write_text("{}")
    assert not SafetensorsLoader().recognises(path)
    assert SafetensorsLoader().recognises(write(tmp_path / "other.safetensors", VALUE))


def test_weights_of_a_model_are_none(tmp_path: Path) -> None:
    path = write(tmp_path / "model.safetensors", {"model.embed_tokens.weight": A, "odd.m": B})
    assert not SafetensorsLoader().recognises(path)


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ({f"{V}.lora_A.weight": A}, FormatError, "half of the pair"),
        (VALUE | {"lm_head.weight": A}, UnsupportedError, "whole weights"),
        (VALUE | {f"{V}.lora_B.bias": A[0]}, UnsupportedError, "whole weights"),
        (VALUE | {f"{V}.lora_A.two.weight": A}, FormatError, "twice"),
        ({"x.lora_A.weight": A, "x.lora_b": B}, FormatError, "two dialects"),
        ({f"{V}.lora_A.weight": A, f"{V}.lora_B.weight": B[0]}, FormatError, "no pair"),
    ],
)
def test_what_makes_no_sense_is_refused(
    tmp_path: Path, tensors: dict[str, Any], error: type[FormatError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(write(tmp_path / "a.safetensors", tensors))
