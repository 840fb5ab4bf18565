"""MLX-LM's conventions, field by field: mlx_lm/tuner/lora.py and utils.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.api import (
    Adapter,
    ExportRequest,
    GgufFile,
    LoraFactors,
    UnsupportedError,
    read_safetensors,
    rows_to_gguf,
)
from studio.lora.stack import LoraStack
from studio_mlx.exporter import MlxExporter, MlxExportOptions

SmallBase = Callable[..., GgufFile]
MakeBlend = Callable[..., LoraStack]
Deltas = Callable[[LoraStack, str], Any]

Q, UP, DOWN = (f"blk.0.{name}.weight" for name in ("attn_q", "ffn_up", "ffn_down"))
MLX_NAMES = {
    Q: "model.layers.0.self_attn.q_proj",
    UP: "model.layers.0.mlp.up_proj",
    DOWN: "model.layers.0.mlp.down_proj",
    "output.weight": "lm_head",
}


def export(base: GgufFile, stack: LoraStack, path: Path, **options: Any) -> tuple[Any, dict[str, Any]]:
    """Write a directory and return its configuration and its tensors."""
    request = ExportRequest(base, stack.by_key, stack.blend)
    list(MlxExporter().export(request, path, MlxExportOptions(**options)))
    config = json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))
    return config, read_safetensors(path / "adapters.safetensors")


def test_the_configuration_has_mlx_lms_fields(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path
) -> None:
    config, tensors = export(small_base(), make_blend(({Q: 4, UP: 4}, 0.5)), tmp_path / "mlx")
    assert config == {
        "fine_tune_type": "lora",
        "num_layers": 2,
        "lora_parameters": {
            "rank": 4,
            "scale": 0.5 * 2.0 / 4,  # the direct scale: user's * alpha / rank
            "dropout": 0.0,
            "keys": ["mlp.up_proj", "self_attn.q_proj"],
        },
    }
    shapes = {name: values.shape for name, values in tensors.items()}
    assert shapes == {
        "model.layers.0.self_attn.q_proj.lora_a": (16, 4),  # (in, r)
        "model.layers.0.self_attn.q_proj.lora_b": (4, 16),  # (r, out)
        "model.layers.0.mlp.up_proj.lora_a": (16, 4),
        "model.layers.0.mlp.up_proj.lora_b": (4, 24),
    }


ranks = st.dictionaries(st.sampled_from(sorted(MLX_NAMES)), st.integers(1, 5), min_size=1)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(adapters=st.lists(st.tuples(ranks, st.sampled_from([0.3, 1.0, -1.5])), min_size=1, max_size=3))
def test_any_blend_is_what_mlx_lm_computes(
    small_base: SmallBase,
    make_blend: MakeBlend,
    dense_blend: Deltas,
    tmp_path_factory: pytest.TempPathFactory,
    adapters: list[tuple[dict[str, int], float]],
) -> None:
    """LoRALinear adds scale * (x @ lora_a) @ lora_b, for x and outputs in Hugging Face's row order."""
    stack = make_blend(*adapters)
    config, tensors = export(small_base(), stack, tmp_path_factory.mktemp("mlx") / "mlx")
    scale, rank = config["lora_parameters"]["scale"], config["lora_parameters"]["rank"]
    for module in {module for own, _ in adapters for module in own}:
        a, b = (tensors[f"{MLX_NAMES[module]}.lora_{half}"].astype(np.float64) for half in "ab")
        assert (a.shape[1], b.shape[0]) == (rank, rank)
        found: Any = scale * (a @ b).T
        if module == Q:
            found = rows_to_gguf(found, 4)
        wanted = dense_blend(stack, module)
        assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_an_embedding_is_looked_up_in_lora_a(
    small_base: SmallBase, make_blend: MakeBlend, dense_blend: Deltas, tmp_path: Path
) -> None:
    """LoRAEmbedding adds scale * lora_a[x] @ lora_b, lora_a (vocab, r) and lora_b (r, embd)."""
    stack = make_blend(({"token_embd.weight": 3}, 0.7))
    config, tensors = export(small_base(), stack, tmp_path / "mlx")
    assert config["lora_parameters"]["keys"] == ["model.embed_tokens"]
    a, b = (tensors[f"model.embed_tokens.lora_{half}"] for half in "ab")
    assert (a.shape, b.shape) == ((32, 3), (3, 16))
    wanted = dense_blend(stack, "token_embd.weight")
    np.testing.assert_allclose(config["lora_parameters"]["scale"] * a @ b, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("modules", [["token_embd.weight"], ["output.weight"]])
def test_a_tied_embedding_takes_one_pair_for_both_or_none(
    data_dir: Path, tmp_path: Path, modules: list[str]
) -> None:
    base = GgufFile.open(data_dir / "architectures" / "qwen2.gguf")
    rows, width = base.tensors["token_embd.weight"].shape
    rng = np.random.default_rng(0)
    pair = LoraFactors(rng.random((2, width), np.float32), rng.random((rows, 2), np.float32), 2.0)
    stack = LoraStack()
    stack.push(Adapter("one", dict.fromkeys(modules, pair)))
    with pytest.raises(UnsupportedError, match="adapts both by one pair"):
        export(base, stack, tmp_path / "mlx")
    stack.clear()
    stack.push(Adapter("both", dict.fromkeys(["token_embd.weight", "output.weight"], pair)))
    _, tensors = export(base, stack, tmp_path / "mlx")
    assert tensors.keys() == {"model.embed_tokens.lora_a", "model.embed_tokens.lora_b"}
    base.close()


def test_experts_and_unknown_names_are_refused(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path
) -> None:
    with pytest.raises(UnsupportedError, match="adapters on experts"):
        export(small_base(), make_blend(({"blk.1.ffn_up_exps.weight": 2}, 1.0)), tmp_path / "mlx")
    with pytest.raises(UnsupportedError, match="'gpt2' in MLX-LM are not known"):
        export(small_base("gpt2"), make_blend(({Q: 2}, 1.0)), tmp_path / "mlx")
    assert list(tmp_path.iterdir()) == []
