"""PEFT directories become adapters with the base's names and row order."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.api import Adapter, FormatError, GgufFile, StudioError, UnsupportedError
from studio.lora.report import bind
from studio_peft.loader import PeftLoader, PeftOptions

Arrays = dict[str, np.ndarray[Any, Any]]
WritePeft = Callable[..., Path]
SmallBase = Callable[[str], GgufFile]

LINEAR = {
    "self_attn.q_proj": ("attn_q", (16, 16)),
    "self_attn.k_proj": ("attn_k", (8, 16)),
    "self_attn.v_proj": ("attn_v", (8, 16)),
    "self_attn.o_proj": ("attn_output", (16, 16)),
    "mlp.gate_proj": ("ffn_gate", (24, 16)),
    "mlp.up_proj": ("ffn_up", (24, 16)),
    "mlp.down_proj": ("ffn_down", (16, 24)),
}


def pair(shape: tuple[int, int], rank: int = 2, dtype: Any = np.float32, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((rank, shape[1])).astype(dtype),
        rng.standard_normal((shape[0], rank)).astype(dtype),
    )


def value_tensors(prefix: str = "base_model.model.model.", suffix: str = ".weight") -> Arrays:
    """The two tensors of v_proj in layer 1, whose rows never move."""
    a, b = pair((8, 16))
    module = f"{prefix}layers.1.self_attn.v_proj"
    return {f"{module}.lora_A{suffix}": a, f"{module}.lora_B{suffix}": b}


def load(path: Path, base: GgufFile | None, options: PeftOptions | None = None) -> Adapter:
    adapter = PeftLoader().load(path, base, options or PeftOptions())
    assert isinstance(adapter, Adapter)
    return adapter


def dense(adapter: Adapter, module: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    factors = adapter.factors[module]
    return factors.scaling * factors.b.astype(np.float64) @ factors.a


def pairs_of_halves(delta: np.ndarray[Any, Any], heads: int) -> np.ndarray[Any, Any]:
    """Reorder rows one by one: in each head, row i of the first half, then row i of the second."""
    size = delta.shape[0] // heads
    order = [
        head * size + place for head in range(heads) for i in range(size // 2) for place in (i, i + size // 2)
    ]
    return delta[order]


# What it reads


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_mix_of_modules_ranks_types_and_keys(
    data: st.DataObject,
    small_base: SmallBase,
    write_peft: WritePeft,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    architecture = data.draw(st.sampled_from(["llama", "qwen2"]))
    prefix = data.draw(st.sampled_from(["base_model.model.model.", "base_model.model.", "model.", ""]))
    suffix = data.draw(st.sampled_from([".weight", ".default.weight", ".my_adapter.weight"]))
    dtype = data.draw(st.sampled_from([np.float32, np.float16, ml_dtypes.bfloat16]))
    modules = data.draw(
        st.dictionaries(
            st.tuples(st.integers(0, 1), st.sampled_from(sorted(LINEAR))), st.integers(1, 5), min_size=1
        )
    )
    tensors: Arrays = {}
    expected = {}
    for (layer, hf_target), rank in modules.items():
        target, shape = LINEAR[hf_target]
        a, b = pair(shape, rank, dtype, seed=layer)
        tensors[f"{prefix}layers.{layer}.{hf_target}.lora_A{suffix}"] = a
        tensors[f"{prefix}layers.{layer}.{hf_target}.lora_B{suffix}"] = b
        delta = 6 / rank * b.astype(np.float64) @ a.astype(np.float64)
        heads = {"attn_q": 4, "attn_k": 2}.get(target) if architecture == "llama" else None
        expected[f"blk.{layer}.{target}.weight"] = pairs_of_halves(delta, heads) if heads else delta
    ranks = {rf"layers\.{layer}\.{target}": rank for (layer, target), rank in modules.items()}
    folder = tmp_path_factory.mktemp("peft")
    write_peft(folder, tensors, r=99, lora_alpha=6, rank_pattern=ranks)

    adapter, report = bind(load(folder, small_base(architecture)), small_base(architecture))

    assert report.matched == len(modules)
    assert set(adapter.modules) == set(expected)
    for module, delta in expected.items():
        np.testing.assert_allclose(dense(adapter, module), delta, rtol=1e-5, atol=1e-5)


def test_the_demo_adapter_equals_the_one_that_llama_cpp_converted(
    smollm2: GgufFile, adapters_dir: Path, data_dir: Path
) -> None:
    """So names, row order and scaling are llama.cpp's own."""
    converted = GgufFile.open(data_dir / "smollm2-fortune-f16.gguf")
    adapter, report = bind(load(adapters_dir / "smollm2-fortune", smollm2), smollm2)
    assert (report.modules, report.matched, report.unmatched) == (210, 210, ())
    for module, factors in adapter.factors.items():
        np.testing.assert_array_equal(factors.a, converted.dense(f"{module}.lora_a"))
        np.testing.assert_array_equal(factors.b, converted.dense(f"{module}.lora_b"))
        assert factors.scaling == 2
    converted.close()


def test_rank_stabilised_scaling(smollm2: GgufFile, adapters_dir: Path) -> None:
    adapter = load(adapters_dir / "smollm2-python", smollm2)
    assert {pair.scaling for pair in adapter.factors.values()} == {4.0}  # 16 / sqrt(16)


def test_patterns_of_rank_and_alpha(smollm2: GgufFile, adapters_dir: Path) -> None:
    adapter = load(adapters_dir / "smollm2-legal", smollm2)
    expected = {
        "blk.0.attn_q.weight": (4, 16),
        "blk.1.attn_q.weight": (8, 16),
        "blk.9.ffn_down.weight": (16, 8),
        "blk.10.ffn_down.weight": (8, 16),  # the pattern asks for one digit
    }
    found = {module: (adapter.factors[module].rank, adapter.factors[module].alpha) for module in expected}
    assert found == expected


def test_the_first_pattern_that_matches_counts(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    patterns = {"proj": 1, "o_proj": 2, "v_proj": 8, ".*": 16}
    write_peft(tmp_path, value_tensors(), alpha_pattern=patterns)
    adapter = load(tmp_path, small_base("llama"))
    assert adapter.factors["blk.1.attn_v.weight"].alpha == 8  # "proj" must start after a dot


def test_embeddings_are_the_other_way_up(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    """For token t PEFT adds scaling * (B @ A[:, t]) to its row of the embedding."""
    a, b = pair((16, 32))  # A (r, vocab), B (embd, r)
    module = "base_model.model.model.embed_tokens"
    tensors = {f"{module}.lora_embedding_A": a, f"{module}.lora_embedding_B": b}
    tensors |= {f"{module}.base_layer.weight": np.zeros((32, 16), np.float32)}
    write_peft(tmp_path, tensors)
    adapter, _ = bind(load(tmp_path, small_base("llama")), small_base("llama"))
    np.testing.assert_allclose(dense(adapter, "token_embd.weight"), (2 * b @ a).T, rtol=1e-5)
    assert "embed_tokens.base_layer.weight" in adapter.notes[0]


def test_fan_in_fan_out_changes_nothing(small_base: SmallBase, write_peft: WritePeft, tmp_path: Path) -> None:
    """It says how the base's own weight lies; PEFT's factors lie as always."""
    plain = load(write_peft(tmp_path / "plain", value_tensors()), small_base("llama"))
    fan = load(write_peft(tmp_path / "fan", value_tensors(), fan_in_fan_out=True), small_base("llama"))
    np.testing.assert_array_equal(dense(fan, "blk.1.attn_v.weight"), dense(plain, "blk.1.attn_v.weight"))


def test_keys_that_nobody_knows_are_listed(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    a, b = pair((8, 16))
    strange = {"base_model.model.vision.lora_A.weight": a, "base_model.model.vision.lora_B.weight": b}
    write_peft(tmp_path, value_tensors() | strange | {"a.strange.key": a})
    adapter, report = bind(load(tmp_path, small_base("llama")), small_base("llama"))
    assert adapter.modules == ("blk.1.attn_v.weight",)
    assert set(report.unmatched) == {"vision", "a.strange.key"}
    assert (report.modules, report.matched) == (3, 1)


def test_rows_can_be_left_as_stored(small_base: SmallBase, write_peft: WritePeft, tmp_path: Path) -> None:
    a, b = pair((16, 16))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    write_peft(tmp_path, {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b})
    adapter = load(tmp_path, small_base("llama"), PeftOptions(row_order="as stored"))
    np.testing.assert_array_equal(adapter.factors["blk.0.attn_q.weight"].b, b)


def test_without_a_base_it_can_be_looked_at_but_not_bound(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    adapter = load(write_peft(tmp_path, value_tensors()), None)
    assert adapter.modules == ("blk.1.attn_v.weight",)
    assert "without a base" in adapter.notes[0]
    with pytest.raises(StudioError, match="without a base"):
        bind(adapter, small_base("llama"))


def test_name_and_source_are_the_directorys(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    folder = write_peft(tmp_path / "legal", value_tensors())
    for path in (folder, folder / "adapter_model.safetensors", folder / "adapter_config.json"):
        adapter = load(path, small_base("llama"))
        assert (adapter.name, adapter.source, adapter.format) == ("legal", folder, "PEFT directory")


def test_one_pair_for_embedding_and_output_is_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    a, b = pair((32, 16))
    head = {"base_model.model.lm_head.lora_A.weight": a, "base_model.model.lm_head.lora_B.weight": b}
    tied = write_peft(tmp_path / "tied", value_tensors() | head, ensure_weight_tying=True)
    with pytest.raises(UnsupportedError) as caught:
        load(tied, small_base("llama"))
    assert caught.value.where == "ensure_weight_tying"
    elsewhere = write_peft(tmp_path / "elsewhere", value_tensors(), ensure_weight_tying=True)
    assert len(load(elsewhere, small_base("llama")).modules) == 1


# What it recognises


def test_it_recognises_the_directory_and_its_files(
    write_peft: WritePeft, adapters_dir: Path, smollm2_path: Path, tmp_path: Path
) -> None:
    loader = PeftLoader()
    folder = write_peft(tmp_path / "adapter", value_tensors())
    assert loader.recognises(adapters_dir / "smollm2-legal")
    assert loader.recognises(folder / "adapter_model.safetensors")
    assert not loader.recognises(smollm2_path)
    assert not loader.recognises(tmp_path)
    assert not loader.recognises(tmp_path / "nothing")
    assert not loader.recognises(Path("\0"))


def test_an_mlx_directory_is_none(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"fine_tune_type": "lora"}')
    (tmp_path / "adapters.safetensors").write_bytes(b"")
    assert not PeftLoader().recognises(tmp_path)


# What it refuses


@pytest.mark.parametrize(
    "fields",
    [
        {"bias": "all"},
        {"lora_bias": True},
        {"modules_to_save": ["lm_head"]},
        {"layer_replication": [[0, 2]]},
        {"target_parameters": ["self_attn.q_proj.weight"]},
        {"trainable_token_indices": [5]},
        {"alora_invocation_tokens": [1, 2]},
        {"init_lora_weights": "pissa_niter_4"},
        {"peft_type": "LOHA"},
        {"peft_type": None},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_no_plain_lora_is_refused_by_field(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, fields: dict[str, object]
) -> None:
    write_peft(tmp_path, value_tensors(), **fields)
    with pytest.raises(UnsupportedError) as caught:
        load(tmp_path, small_base("llama"))
    assert caught.value.where == next(iter(fields))
    assert caught.value.path == tmp_path / "adapter_config.json"
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("base_model.model.model.layers.1.self_attn.v_proj.bias", "biases"),
        ("base_model.model.model.layers.1.self_attn.v_proj.lora_B.bias", "biases"),
        ("base_model.model.lm_head.weight", "whole weights"),
        ("base_model.model.lm_head.modules_to_save.default.weight", "whole weights"),
    ],
)
def test_tensors_beyond_plain_lora_are_refused_by_key(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, key: str, message: str
) -> None:
    write_peft(tmp_path, value_tensors() | {key: np.zeros((8, 2), np.float32)})
    with pytest.raises(UnsupportedError, match=message) as caught:
        load(tmp_path, small_base("llama"))
    assert key in str(caught.value)


def test_a_pickle_is_never_opened(write_peft: WritePeft, small_base: SmallBase, tmp_path: Path) -> None:
    write_peft(tmp_path, value_tensors())
    (tmp_path / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    assert PeftLoader().recognises(tmp_path)
    with pytest.raises(UnsupportedError, match="pickle") as caught:
        load(tmp_path, small_base("llama"))
    assert "safe_serialization" in str(caught.value.remedy)


@pytest.mark.parametrize("half", ["A", "B"])
def test_half_a_pair_is_refused_by_module(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, half: str
) -> None:
    tensors = value_tensors()
    del tensors[f"base_model.model.model.layers.1.self_attn.v_proj.lora_{half}.weight"]
    write_peft(tmp_path, tensors)
    with pytest.raises(FormatError, match=f"missing: {half}") as caught:
        load(tmp_path, small_base("llama"))
    assert caught.value.where == "model.layers.1.self_attn.v_proj"


def test_two_adapters_in_one_file_are_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    write_peft(tmp_path, value_tensors(suffix=".one.weight") | value_tensors(suffix=".two.weight"))
    with pytest.raises(FormatError, match="several adapters"):
        load(tmp_path, small_base("llama"))


def test_a_rank_that_contradicts_the_configuration_is_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    """PEFT scales by the configuration's rank, so a wrong one would be a wrong adapter."""
    write_peft(tmp_path, value_tensors(), r=4)
    with pytest.raises(FormatError, match=r"A \(2, 16\) and B \(8, 2\) do not have the rank 4"):
        load(tmp_path, small_base("llama"))


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"r": 0}, "r"),
        ({"r": "8"}, "r"),
        ({"r": None}, "r"),
        ({"lora_alpha": -1}, "lora_alpha"),
        ({"lora_alpha": float("nan")}, "lora_alpha"),
        ({"lora_alpha": None}, "lora_alpha"),
        ({"rank_pattern": [1]}, "rank_pattern"),
        ({"rank_pattern": {"(": 1}}, "rank_pattern"),
        ({"rank_pattern": {"q_proj": 0.5}}, "rank_pattern[q_proj]"),
        ({"alpha_pattern": {"q_proj": -2}}, "alpha_pattern[q_proj]"),
    ],
)
def test_a_configuration_that_makes_no_sense_is_refused_by_field(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, fields: dict[str, object], where: str
) -> None:
    write_peft(tmp_path, value_tensors(), **fields)
    with pytest.raises(FormatError) as caught:
        load(tmp_path, small_base("llama"))
    assert caught.value.where == where


@pytest.mark.parametrize("text", ["", "[]", "{", "[" * 100_000, '"\\ud800'])
def test_a_damaged_configuration_is_recognised_and_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, text: str
) -> None:
    write_peft(tmp_path, value_tensors())
    (tmp_path / "adapter_config.json").write_text(text)
    assert PeftLoader().recognises(tmp_path)
    with pytest.raises(FormatError, match="configuration"):
        load(tmp_path, small_base("llama"))


def test_weights_that_are_not_finite_are_refused_by_module(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    tensors = value_tensors()
    next(iter(tensors.values()))[0, 0] = np.inf
    write_peft(tmp_path, tensors)
    with pytest.raises(FormatError, match=r"blk\.1\.attn_v\.weight \(A\)"):
        load(tmp_path, small_base("llama"))


def test_missing_weights_are_refused(adapters_dir: Path, tmp_path: Path, small_base: SmallBase) -> None:
    shutil.copy(adapters_dir / "smollm2-legal" / "adapter_config.json", tmp_path)
    with pytest.raises(FormatError) as caught:
        load(tmp_path, small_base("llama"))
    assert caught.value.path == tmp_path / "adapter_model.safetensors"


def test_query_rows_that_do_not_fit_the_heads_are_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    a, b = pair((18, 16))
    module = "base_model.model.model.layers.0.self_attn.q_proj"
    write_peft(tmp_path, {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b})
    with pytest.raises(StudioError, match="18 rows do not divide into 4 heads"):
        load(tmp_path, small_base("llama"))
