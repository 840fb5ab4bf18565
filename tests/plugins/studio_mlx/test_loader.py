"""MLX-LM directories, field by field against its sources (mlx_lm/tuner/lora.py, dora.py, utils.py)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import Adapter, DoraAdapter, FormatError, GgufFile, StudioError, UnsupportedError
from studio.lora.report import bind
from studio_mlx.loader import MlxLoader, MlxOptions

WriteMlx = Callable[..., Path]
SmallBase = Callable[..., GgufFile]

V = "model.layers.1.self_attn.v_proj"


def value_tensors(rank: int = 2) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((16, rank), np.float32), rng.standard_normal((rank, 8), np.float32)
    return {f"{V}.lora_a": a, f"{V}.lora_b": b}


def load(path: Path, base: GgufFile | None = None) -> Adapter:
    adapter = MlxLoader().load(path, base, MlxOptions())
    assert isinstance(adapter, Adapter)
    return adapter


def test_the_scale_is_direct_and_the_factors_lie_on_their_side(
    write_mlx: WriteMlx, small_base: SmallBase, tmp_path: Path
) -> None:
    """y = W x + scale * (x lora_a) lora_b, with no rank in it."""
    tensors = value_tensors(rank=4)
    adapter = load(write_mlx(tmp_path, tensors, 4, 20.0), small_base())
    assert adapter.factors["blk.1.attn_v.weight"].scaling == 20
    x = np.random.default_rng(1).standard_normal((3, 16), np.float32)
    wanted = 20 * (x @ tensors[f"{V}.lora_a"]) @ tensors[f"{V}.lora_b"]
    found: Any = adapter.delta("blk.1.attn_v.weight", x)
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-4)


def test_dora_has_a_magnitude_m(write_mlx: WriteMlx, small_base: SmallBase, tmp_path: Path) -> None:
    base, tensors = small_base(), value_tensors()
    weight = base.dense("blk.1.attn_v.weight").astype(np.float64)
    m = np.linalg.norm(weight, axis=1).astype(np.float32) * np.float32(1.1)
    write_mlx(tmp_path, tensors | {f"{V}.m": m}, 2, 3.0, fine_tune_type="dora")
    adapter = MlxLoader().load(tmp_path, base, MlxOptions())
    assert isinstance(adapter, DoraAdapter)
    bound, report = bind(adapter, base)
    assert report.format == "MLX-LM directory (DoRA)"
    changed = weight + 3.0 * (tensors[f"{V}.lora_a"].astype(np.float64) @ tensors[f"{V}.lora_b"]).T
    merged = (m / np.linalg.norm(changed, axis=1))[:, None] * changed
    found: Any = bound.dense_delta_at("blk.1.attn_v.weight", 1.0)
    np.testing.assert_allclose(found, merged - weight, atol=1e-5)


def test_experts_stand_the_right_way_up_already(
    write_mlx: WriteMlx, small_base: SmallBase, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((3, 2, 16), np.float32), rng.standard_normal((3, 24, 2), np.float32)
    for stem in ("mlp.switch_mlp", "block_sparse_moe.switch_mlp"):
        module = f"model.layers.1.{stem}.up_proj"
        write_mlx(tmp_path, {f"{module}.lora_a": a, f"{module}.lora_b": b}, 2, 1.0)
        adapter, _ = bind(load(tmp_path, small_base()), small_base())
        np.testing.assert_array_equal(adapter.factors["blk.1.ffn_up_exps.weight"].b, b)


def test_an_embedding_and_an_output(write_mlx: WriteMlx, small_base: SmallBase, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    a, b = rng.standard_normal((32, 2), np.float32), rng.standard_normal((2, 16), np.float32)
    tensors = {"model.embed_tokens.lora_a": a, "model.embed_tokens.lora_b": b}
    tensors |= {"lm_head.lora_a": b.T.copy(), "lm_head.lora_b": a.T.copy()}
    adapter, _ = bind(load(write_mlx(tmp_path, tensors, 2, 1.0), small_base()), small_base())
    assert set(adapter.modules) == {"token_embd.weight", "output.weight"}
    for factors in adapter.factors.values():
        np.testing.assert_allclose(factors.b @ factors.a, a @ b, rtol=1e-5)


def test_a_pair_on_a_tied_embedding_acts_on_the_output_too(
    write_mlx: WriteMlx, smollm2: GgufFile, tmp_path: Path
) -> None:
    """As LoRAEmbedding.as_linear does."""
    a, b = np.ones((49152, 1), np.float32), np.ones((1, 576), np.float32)
    write_mlx(tmp_path, {"model.embed_tokens.lora_a": a, "model.embed_tokens.lora_b": b}, 1, 1.0)
    adapter, report = bind(load(tmp_path, smollm2), smollm2)
    assert set(adapter.modules) == {"token_embd.weight", "output.weight"}
    assert {"tied-pair", "tied-embedding", "tied-output"} <= {finding.topic for finding in report.findings}


def test_an_alpha_of_early_versions_is_told(
    write_mlx: WriteMlx, small_base: SmallBase, tmp_path: Path
) -> None:
    parameters = {"rank": 2, "scale": 10.0, "alpha": 16.0, "dropout": 0.0}
    adapter = load(write_mlx(tmp_path, value_tensors(), 2, 1.0, lora_parameters=parameters), small_base())
    assert adapter.factors["blk.1.attn_v.weight"].scaling == 10
    assert [finding.topic for finding in adapter.findings] == ["mlx-alpha"]


@pytest.mark.parametrize(
    ("fields", "error", "where"),
    [
        ({"fine_tune_type": "full"}, UnsupportedError, "fine_tune_type"),
        ({"lora_parameters": None}, FormatError, "lora_parameters"),
        ({"lora_parameters": {"rank": 0, "scale": 1}}, FormatError, "lora_parameters.rank"),
        ({"lora_parameters": {"rank": "2", "scale": 1}}, FormatError, "lora_parameters.rank"),
        ({"lora_parameters": {"rank": 2}}, FormatError, "lora_parameters.scale"),
        ({"lora_parameters": {"rank": 2, "scale": float("inf")}}, FormatError, "lora_parameters.scale"),
        ({"lora_parameters": {"rank": 3, "scale": 1}}, FormatError, V),
        ({"fine_tune_type": "dora"}, FormatError, V),
    ],
)
def test_what_makes_no_sense_is_refused_by_field(
    write_mlx: WriteMlx, tmp_path: Path, fields: dict[str, Any], error: type[StudioError], where: str
) -> None:
    write_mlx(tmp_path, value_tensors(), 2, 1.0, **fields)
    with pytest.raises(error) as caught:
        load(tmp_path)
    assert caught.value.where == where
    assert caught.value.remedy


def test_it_is_recognised_by_folder_and_file_and_told_from_pefts(write_mlx: WriteMlx, tmp_path: Path) -> None:
    loader = MlxLoader()
    write_mlx(tmp_path / "mlx", value_tensors(), 2, 1.0)
    assert loader.recognises(tmp_path / "mlx")
    assert loader.recognises(tmp_path / "mlx" / "adapters.safetensors")
    write_mlx(tmp_path / "peft", value_tensors(), 2, 1.0, peft_type="LORA")
    assert not loader.recognises(tmp_path / "peft")
    (tmp_path / "mlx" / "adapter_config.json").write_text("{")
    assert loader.recognises(tmp_path / "mlx")  # so that loading tells what is wrong
    with pytest.raises(FormatError, match="configuration"):
        load(tmp_path / "mlx")
