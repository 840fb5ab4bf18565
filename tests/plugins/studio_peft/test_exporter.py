"""The PEFT directory that is written is the blend, in PEFT's own terms."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from studio.api import (
    Adapter,
    ExportRequest,
    GgufFile,
    LoraFactors,
    SaveError,
    UnsupportedError,
    read_safetensors,
)
from studio.lora.stack import LoraStack
from studio_peft.exporter import PeftExporter, PeftExportOptions
from studio_peft.loader import PeftLoader, PeftOptions

SmallBase = Callable[..., GgufFile]
MakeBlend = Callable[..., LoraStack]
Deltas = Callable[[LoraStack, str], Any]

Q, K, UP, DOWN = (f"blk.0.{name}.weight" for name in ("attn_q", "attn_k", "ffn_up", "ffn_down"))
EXPERTS = tuple(f"blk.1.ffn_{name}_exps.weight" for name in ("gate", "up", "down"))


def export(base: GgufFile, stack: LoraStack, path: Path, **options: Any) -> Any:
    work = PeftExporter().export(
        ExportRequest(base, stack.by_key, stack.blend), path, PeftExportOptions(**options)
    )
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def config_of(path: Path) -> Any:
    return json.loads((path / "adapter_config.json").read_text(encoding="utf-8"))


def reload(base: GgufFile, path: Path) -> Adapter:
    adapter = PeftLoader().load(path, base, PeftOptions())
    assert isinstance(adapter, Adapter)
    return adapter


def factors_of(stack: LoraStack) -> Mapping[str, LoraFactors]:
    ((adapter, _),) = stack.entries
    assert isinstance(adapter, Adapter)
    return adapter.factors


def test_keys_and_rows_are_hugging_faces(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path
) -> None:
    stack = make_blend(({Q: 2, K: 2, UP: 2}, 1.0))
    export(small_base(), stack, tmp_path / "peft")
    tensors = read_safetensors(tmp_path / "peft" / "adapter_model.safetensors")
    layer = "base_model.model.model.layers.0."
    assert tensors.keys() == {
        f"{layer}{module}.lora_{half}.weight"
        for module in ("self_attn.q_proj", "self_attn.k_proj", "mlp.up_proj")
        for half in "AB"
    }
    factors = factors_of(stack)
    # 4 heads of 4 rows: the pairs (0, 1), (2, 3) of GGUF are the halves (0, 2), (1, 3) there.
    rows = [head * 4 + row for head in range(4) for row in (0, 2, 1, 3)]
    np.testing.assert_array_equal(tensors[f"{layer}self_attn.q_proj.lora_B.weight"], factors[Q].b[rows])
    np.testing.assert_array_equal(tensors[f"{layer}mlp.up_proj.lora_B.weight"], factors[UP].b)
    export(small_base(), stack, tmp_path / "kept", row_order="as stored")
    kept = read_safetensors(tmp_path / "kept" / "adapter_model.safetensors")
    np.testing.assert_array_equal(kept[f"{layer}self_attn.q_proj.lora_B.weight"], factors[Q].b)


def test_ranks_and_alphas_that_differ_are_patterns(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path
) -> None:
    export(small_base(), make_blend(({Q: 2, K: 2, UP: 5}, 1.0)), tmp_path / "peft", base_model="me/base")
    config = config_of(tmp_path / "peft")
    assert (config["r"], config["rank_pattern"]) == (2, {"model.layers.0.mlp.up_proj": 5})
    assert (config["lora_alpha"], config["alpha_pattern"]) == (2, {})  # alpha 2, as the adapter has it
    assert config["base_model_name_or_path"] == "me/base"
    assert config["peft_type"] == "LORA"
    assert (config["use_rslora"], config["fan_in_fan_out"]) == (False, False)


def test_targets_are_short_where_all_that_end_so_are_adapted(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path
) -> None:
    modules = {f"blk.{layer}.attn_q.weight": 2 for layer in range(2)} | {UP: 2}
    export(small_base("qwen2"), make_blend((modules, 1.0)), tmp_path / "peft")
    assert config_of(tmp_path / "peft")["target_modules"] == ["model.layers.0.mlp.up_proj", "q_proj"]


def test_gpt_2_is_said_to_be_transposed(data_dir: Path, tmp_path: Path) -> None:
    base = GgufFile.open(data_dir / "architectures" / "gpt2.gguf")
    stack = LoraStack()
    stack.push(reload(base, data_dir / "architectures" / "gpt2-peft"))
    export(base, stack, tmp_path / "peft")
    base.close()
    assert config_of(tmp_path / "peft")["fan_in_fan_out"] is True


def test_a_single_adapter_comes_back_to_the_bit(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path
) -> None:
    stack = make_blend(({Q: 2, UP: 3, "token_embd.weight": 2}, 1.0), stabilised=True)
    export(small_base(), stack, tmp_path / "peft")
    adapter = reload(small_base(), tmp_path / "peft")
    for module, pair in factors_of(stack).items():
        found = adapter.factors[module]
        np.testing.assert_array_equal(found.a, pair.a)
        np.testing.assert_array_equal(found.b, pair.b)
        assert found.scaling == pytest.approx(pair.scaling, rel=1e-12)


modules = st.sampled_from([Q, K, UP, DOWN, "token_embd.weight", "output.weight", EXPERTS[2]])
ranks = st.dictionaries(modules, st.integers(1, 5), min_size=1)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    adapters=st.lists(st.tuples(ranks, st.sampled_from([0.3, 1.0, -1.5])), min_size=1, max_size=3),
    architecture=st.sampled_from(["llama", "qwen2"]),
    stabilised=st.booleans(),
)
def test_any_blend_comes_back_as_it_went(
    small_base: SmallBase,
    make_blend: MakeBlend,
    dense_blend: Deltas,
    tmp_path_factory: pytest.TempPathFactory,
    adapters: list[tuple[dict[str, int], float]],
    architecture: str,
    stabilised: bool,
) -> None:
    if architecture == "qwen2":  # which has no experts
        assume(all(EXPERTS[2] not in own for own, _ in adapters))
    stack = make_blend(*adapters, stabilised=stabilised)
    path = tmp_path_factory.mktemp("peft") / "peft"
    export(small_base(architecture), stack, path)
    adapter = reload(small_base(architecture), path)
    assert set(adapter.modules) == {module for own, _ in adapters for module in own}
    for module, pair in adapter.factors.items():
        wanted = dense_blend(stack, module)
        found = pair.scaling * (pair.b.astype(np.float64) @ pair.a)
        assert np.linalg.norm(found - wanted) <= 1e-5 * np.linalg.norm(wanted)


def test_gate_and_up_of_experts_share_a_parameter(
    small_base: SmallBase, make_blend: MakeBlend, dense_blend: Deltas, tmp_path: Path
) -> None:
    stack = make_blend((dict(zip(EXPERTS, (2, 3, 1), strict=True)), 0.7))
    export(small_base(), stack, tmp_path / "peft")
    tensors = read_safetensors(tmp_path / "peft" / "adapter_model.safetensors")
    stem = "base_model.model.model.layers.1.mlp.experts"
    assert tensors[f"{stem}.base_layer.lora_A.weight"].shape == (3 * 5, 16)
    assert tensors[f"{stem}.lora_A.weight"].shape == (3 * 1, 24)
    assert config_of(tmp_path / "peft")["target_parameters"] == [
        "model.layers.1.mlp.experts.down_proj",
        "model.layers.1.mlp.experts.gate_up_proj",
    ]
    adapter = reload(small_base(), tmp_path / "peft")
    for module in EXPERTS:
        pair = adapter.factors[module]
        found = pair.scaling * (pair.b.astype(np.float64) @ pair.a)
        np.testing.assert_allclose(found, dense_blend(stack, module), rtol=1e-4, atol=1e-5)


def test_half_of_gate_and_up_is_refused(small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path) -> None:
    with pytest.raises(UnsupportedError, match="only one of gate and up"):
        export(small_base(), make_blend(({EXPERTS[0]: 2}, 1.0)), tmp_path / "peft")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("kind", "bound"), [("F16", 1e-3), ("BF16", 8e-3)])
def test_smaller_types_round(
    small_base: SmallBase, make_blend: MakeBlend, dense_blend: Deltas, tmp_path: Path, kind: str, bound: float
) -> None:
    stack = make_blend(({UP: 3}, 0.5))
    export(small_base(), stack, tmp_path / "peft", type=kind)
    pair = reload(small_base(), tmp_path / "peft").factors[UP]
    wanted = dense_blend(stack, UP)
    error = np.linalg.norm(pair.scaling * pair.b @ pair.a - wanted) / np.linalg.norm(wanted)
    assert 1e-6 < error < bound


def test_a_tied_output_is_written_and_noted(data_dir: Path, tmp_path: Path) -> None:
    base = GgufFile.open(data_dir / "architectures" / "qwen2.gguf")
    rows, width = base.tensors["token_embd.weight"].shape
    stack = LoraStack()
    rng = np.random.default_rng(0)
    pair = LoraFactors(rng.random((2, width), np.float32), rng.random((rows, 2), np.float32), 2.0)
    stack.push(Adapter("head", {"output.weight": pair}))
    exported = export(base, stack, tmp_path / "peft")
    base.close()
    assert "ties its output" in exported.notes[0]
    assert config_of(tmp_path / "peft")["target_modules"] == ["lm_head"]


def test_a_folder_of_other_files_stays(small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(SaveError, match=r"thesis\.tex"):
        export(small_base(), make_blend(({Q: 2}, 1.0)), tmp_path / "mine")
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.tex"]


def test_a_cancelled_export_leaves_nothing(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path
) -> None:
    stack = make_blend(({Q: 2, UP: 2}, 1.0))
    request = ExportRequest(small_base(), stack.by_key, stack.blend)
    for steps in range(1, 7):
        work = PeftExporter().export(request, tmp_path / "peft", PeftExportOptions())
        for _ in range(steps):
            next(work)
        work.close()
        assert list(tmp_path.iterdir()) == []
