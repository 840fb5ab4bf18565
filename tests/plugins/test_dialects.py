"""One adapter in every dialect: whichever program wrote it, the same deltas come out; damage is told."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from studio.api import Adapter, GgufFile, StudioError, write_gguf
from studio.contracts import AdapterLoader
from studio.jobs.opening import read_adapter
from studio.lora.names import rows_to_gguf
from studio.registry import Registry, load_plugins

Arrays = dict[str, np.ndarray[Any, Any]]
SmallBase = Callable[..., GgufFile]

HF = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
META = {
    "attn_q": "attention.wq",
    "attn_k": "attention.wk",
    "attn_v": "attention.wv",
    "attn_output": "attention.wo",
    "ffn_gate": "feed_forward.w1",
    "ffn_up": "feed_forward.w3",
    "ffn_down": "feed_forward.w2",
}
SHAPES = {
    "attn_q": (16, 16),
    "attn_k": (8, 16),
    "attn_v": (8, 16),
    "attn_output": (16, 16),
    "ffn_gate": (24, 16),
    "ffn_up": (24, 16),
    "ffn_down": (16, 24),
}
Pairs = dict[tuple[int, str], tuple[Any, Any]]
"""A ``(r, in)`` and B ``(out, r)`` by layer and target, rows as Hugging Face has them."""


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


def hugging_face(layer: int, target: str) -> str:
    return f"model.layers.{layer}.{HF[target]}"


def in_gguf(pairs: Pairs) -> Pairs:
    """The same pairs with rows of Q and K as a GGUF base of the llama family has them."""
    heads = {"attn_q": 4, "attn_k": 2}
    return {
        (layer, target): (a, rows_to_gguf(b, heads[target]) if target in heads else b)
        for (layer, target), (a, b) in pairs.items()
    }


# One writer a dialect: a folder to write in, pairs, their rank (the largest one) and alpha; returns the path.


def write_peft(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    patterns = {rf"layers\.{layer}\.{HF[target]}": len(a) for (layer, target), (a, _) in pairs.items()}
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": alpha, "rank_pattern": patterns}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    write_bare_peft(folder, pairs, rank, alpha)
    (folder / "bare.safetensors").rename(folder / "adapter_model.safetensors")
    return folder


def write_bare_peft(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    tensors: Arrays = {}
    for (layer, target), (a, b) in pairs.items():
        module = f"base_model.model.{hugging_face(layer, target)}"
        tensors |= {f"{module}.lora_A.weight": a, f"{module}.lora_B.weight": b}
    save_file(tensors, folder / "bare.safetensors")
    return folder / "bare.safetensors"


def write_bare_gguf_names(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    tensors: Arrays = {}
    for (layer, target), (a, b) in in_gguf(pairs).items():
        tensors |= {f"blk.{layer}.{target}.weight.lora_a": a, f"blk.{layer}.{target}.weight.lora_b": b}
    save_file(tensors, folder / "names.safetensors")
    return folder / "names.safetensors"


def mlx_tensors(pairs: Pairs) -> Arrays:
    tensors: Arrays = {}
    for (layer, target), (a, b) in pairs.items():
        module = hugging_face(layer, target)
        tensors |= {f"{module}.lora_a": a.T.copy(), f"{module}.lora_b": b.T.copy()}
    return tensors


def write_mlx(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    parameters = {"rank": rank, "scale": alpha / rank, "dropout": 0.0}
    config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    save_file(mlx_tensors(pairs), folder / "adapters.safetensors")
    return folder


def write_bare_mlx(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    save_file(mlx_tensors(pairs), folder / "mlx.safetensors")
    return folder / "mlx.safetensors"


def llama_cpp_tensors(pairs: Pairs) -> Arrays:
    tensors: Arrays = {}
    for (layer, target), (a, b) in in_gguf(pairs).items():
        tensors |= {f"blk.{layer}.{target}.weight.lora_a": a, f"blk.{layer}.{target}.weight.lora_b": b}
    return tensors


def write_llama_cpp(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
    }
    write_gguf(folder / "a.gguf", keys | {"adapter.lora.alpha": alpha}, llama_cpp_tensors(pairs))
    return folder / "a.gguf"


def write_oxillama(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    keys: dict[str, Any] = {"general.architecture": "llama", "lora.r": np.uint32(rank), "lora.alpha": alpha}
    write_gguf(folder / "a.gguf", keys, llama_cpp_tensors(pairs))
    return folder / "a.gguf"


def write_zerfoo_inference(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    tensors: Arrays = {}
    for (layer, target), (a, b) in in_gguf(pairs).items():
        tensors |= {f"lora_a.blk.{layer}.{target}": a, f"lora_b.blk.{layer}.{target}": b}
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "lora.rank": np.uint32(rank),
        "lora.alpha": alpha,
    }
    write_gguf(folder / "a.gguf", keys, tensors)
    return folder / "a.gguf"


def write_zerfoo_training(folder: Path, pairs: Pairs, rank: int, alpha: float) -> Path:
    tensors: Arrays = {}
    for (layer, target), (a, b) in pairs.items():
        module = hugging_face(layer, target)
        tensors |= {f"lora.{module}.weight_a": a, f"lora.{module}.weight_b": b}
    keys: dict[str, Any] = {"general.architecture": "lora", "lora.rank": np.uint32(rank), "lora.alpha": alpha}
    write_gguf(folder / "a.gguf", keys, tensors)
    return folder / "a.gguf"


ANY_RANK = {
    "PEFT directory": write_peft,
    "llama.cpp GGUF adapter": write_llama_cpp,
    "bare safetensors": write_bare_peft,
    "bare safetensors, GGUF names": write_bare_gguf_names,
    "bare safetensors, MLX": write_bare_mlx,
}
ONE_RANK = {
    "MLX-LM directory": write_mlx,
    "oxillama GGUF adapter": write_oxillama,
    "zerfoo GGUF adapter": write_zerfoo_inference,
    "zerfoo GGUF adapter, training": write_zerfoo_training,
}


def random_pairs(ranks: dict[tuple[int, str], int]) -> Pairs:
    rng = np.random.default_rng(len(ranks))
    return {
        (layer, target): (
            rng.standard_normal((rank, SHAPES[target][1]), np.float32),
            rng.standard_normal((SHAPES[target][0], rank), np.float32),
        )
        for (layer, target), rank in ranks.items()
    }


def pack(path: Path, archive: Path) -> Path:
    """Put a file or the files of a folder into a zip archive of no telling name."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for file in sorted(path.iterdir()) if path.is_dir() else [path]:
            packed.write(file, f"inside/{file.name}")
    return archive


modules = st.dictionaries(
    st.tuples(st.integers(0, 1), st.sampled_from(sorted(SHAPES))), st.integers(1, 5), min_size=1
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(ranks=modules, alpha=st.integers(1, 64), data=st.data())
@pytest.mark.parametrize("dialect", [*ANY_RANK, *ONE_RANK, "ggla adapter"])
def test_any_adapter_comes_out_as_it_went_in(
    dialect: str,
    ranks: dict[tuple[int, str], int],
    alpha: int,
    data: st.DataObject,
    plugins: Registry,
    small_base: SmallBase,
    write_ggla: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    rank = max(ranks.values())
    if dialect not in ANY_RANK:
        ranks = dict.fromkeys(ranks, rank)
    pairs = random_pairs(ranks)
    folder = tmp_path_factory.mktemp("dialect")
    if dialect == "ggla adapter":
        tensors: Arrays = {}
        for (layer, target), (a, b) in pairs.items():
            name = f"layers.{layer}.{META[target]}.weight"
            tensors |= {f"{name}.loraA": np.ascontiguousarray(a.T), f"{name}.loraB": b}
        path = write_ggla(folder / "a.bin", rank, alpha, tensors)
    else:
        path = (ANY_RANK | ONE_RANK)[dialect](folder, pairs, rank, float(alpha))
    options = {"alpha": alpha} if dialect.startswith("bare") else {}
    if data.draw(st.booleans(), "packed"):
        path = pack(path, folder.parent / f"{folder.name}.download")

    loaded = read_adapter(path, small_base("llama"), plugins, options)

    assert isinstance(loaded.adapter, Adapter)
    assert loaded.report.format == dialect.split(",")[0]
    assert loaded.report.unmatched == ()
    assert loaded.adapter.source is not None and loaded.adapter.source.exists()
    wanted = in_gguf(pairs)
    assert set(loaded.adapter.modules) == {f"blk.{layer}.{target}.weight" for layer, target in wanted}
    for (layer, target), (a, b) in wanted.items():
        factors = loaded.adapter.factors[f"blk.{layer}.{target}.weight"]
        delta = alpha / len(a) * b.astype(np.float64) @ a
        np.testing.assert_allclose(factors.scaling * factors.b @ factors.a, delta, rtol=1e-4, atol=1e-4)


# Damage


FILES = {
    "MLX-LM directory": ("adapter_config.json", "adapters.safetensors"),
    "PEFT directory": ("adapter_config.json", "adapter_model.safetensors"),
    "bare safetensors": ("bare.safetensors",),
    "zerfoo GGUF adapter": ("a.gguf",),
    "llama.cpp GGUF adapter": ("a.gguf",),
    "oxillama GGUF adapter": ("a.gguf",),
    "ggla adapter": ("a.bin",),
}


@settings(max_examples=25, deadline=None, derandomize=True)
@given(data=st.data())
@pytest.mark.parametrize("dialect", list(FILES))
def test_damage_is_refused_in_words_or_harmless(
    dialect: str,
    data: st.DataObject,
    plugins: Registry,
    small_base: SmallBase,
    write_ggla: Callable[..., Path],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Cut, with bytes changed, or with numbers swapped for huge ones: a `StudioError`, or an adapter."""
    folder = tmp_path_factory.mktemp("damage")
    pairs = random_pairs({(0, "attn_q"): 2, (1, "ffn_down"): 2})
    if dialect == "ggla adapter":
        tensors: Arrays = {"layers.0.attention.wq.weight.loraA": np.ones((16, 2), np.float32)}
        tensors["layers.0.attention.wq.weight.loraB"] = np.ones((16, 2), np.float16)
        path = write_ggla(folder / "a.bin", 2, 4, tensors)
    else:
        path = (ANY_RANK | ONE_RANK)[dialect](folder, pairs, 2, 4.0)
    file = folder / data.draw(st.sampled_from(FILES[dialect]))
    content = bytearray(file.read_bytes())
    kind = data.draw(st.sampled_from(["cut", "bytes", "huge", "nan"]))
    place = data.draw(st.integers(0, len(content) - 1))
    if kind == "cut":
        del content[place:]
    elif kind == "bytes":
        content[place : place + 3] = data.draw(st.binary(min_size=3, max_size=3))
    elif kind == "huge":
        content[place : place + 8] = b"\xff" * 7 + b"\x7f"
    else:
        content[-4:] = np.float32(np.nan).tobytes()
    file.write_bytes(content)
    loader: AdapterLoader = next(
        one
        for one in plugins.adapter_loaders
        if one.name in (dialect, "llama.cpp GGUF adapter" if dialect.startswith("oxillama") else dialect)
    )
    options = loader.Options(alpha=4.0) if dialect.startswith("bare") else loader.Options()
    loader.recognises(path)
    for base in (None, small_base("llama")):
        try:
            adapter = loader.load(path, base, options)
        except StudioError as error:
            assert error.message
        else:
            assert isinstance(adapter, Adapter)
            assert all(np.isfinite(pair.b).all() for pair in adapter.factors.values())


# Which loader wins


def test_no_file_is_anothers(
    plugins: Registry, smollm2_path: Path, data_dir: Path, adapters_dir: Path, tmp_path: Path
) -> None:
    """Each dialect is recognised by one loader alone, whatever its name; models and others by none."""
    expected: dict[Path, list[str]] = {
        smollm2_path: [],
        data_dir / "README.md": [],
        tmp_path: [],
        tmp_path / "nothing": [],
        Path("\0"): [],
        adapters_dir / "smollm2-legal": ["PEFT directory"],
    }
    pairs = random_pairs({(0, "attn_v"): 2})
    for number, (dialect, write) in enumerate((ANY_RANK | ONE_RANK).items()):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write(folder, pairs, 2, 4.0)
        if path.is_file():
            path = path.rename(folder / "weights.dat")
        name = dialect.split(",")[0].replace("oxillama", "llama.cpp")
        expected[path] = [name]
    for path, names in expected.items():
        assert [loader.name for loader in plugins.adapter_loaders if loader.recognises(path)] == names
        if path != smollm2_path:
            assert not any(loader.recognises(path) for loader in plugins.model_loaders)


def test_a_folder_of_both_is_its_configurations(plugins: Registry, tmp_path: Path) -> None:
    pairs = random_pairs({(0, "attn_v"): 2})
    write_mlx(tmp_path, pairs, 2, 4.0)
    write_peft(tmp_path, pairs, 2, 4.0)  # PEFT's configuration comes to stand over MLX-LM's
    assert [loader.name for loader in plugins.adapter_loaders if loader.recognises(tmp_path)] == [
        "PEFT directory"
    ]


def test_llama_cpps_names_win_over_zerfoos(plugins: Registry, small_base: SmallBase, tmp_path: Path) -> None:
    pairs = random_pairs({(0, "attn_v"): 2})
    tensors = llama_cpp_tensors(pairs) | {"lora_a.blk.0.attn_v": pairs[0, "attn_v"][0]}
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
    }
    write_gguf(tmp_path / "both.gguf", keys | {"adapter.lora.alpha": 4.0, "lora.rank": np.uint32(2)}, tensors)
    report = read_adapter(tmp_path / "both.gguf", small_base("llama"), plugins).report
    assert (report.format, report.unmatched) == ("llama.cpp GGUF adapter", ("lora_a.blk.0.attn_v",))
    assert {"stray-tensors", "unmatched"} <= {finding.topic for finding in report.findings}
