"""What other programs get silently wrong about adapters, and that ours is right: by dense arithmetic.

Each test computes in float64 what the file means and what the program makes of it, takes the file through
our loader and our exporter, and finds the former. What programs do was read in their sources or seen:
llama.cpp's ``convert_lora_to_gguf.py``, PEFT's ``tuners/lora/model.py``, oxillama's ``lora`` module.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import (
    Adapter,
    AnyAdapter,
    Combination,
    DeltaPart,
    ExportRequest,
    GgufFile,
    algebra,
    combined_delta,
    dense_delta,
    write_gguf,
)
from studio.errors import MismatchError
from studio.jobs.opening import read_adapter
from studio.lora.stack import LoraStack
from studio.registry import Registry, load_plugins

SmallBase = Callable[..., GgufFile]
WritePeft = Callable[..., Path]
WriteGguf = Callable[..., Path]

V = "blk.1.attn_v.weight"
OUTPUT = "blk.0.attn_output.weight"
HF = {V: "model.layers.1.self_attn.v_proj", OUTPUT: "model.layers.0.self_attn.o_proj"}
SHAPES = {V: (8, 16), OUTPUT: (16, 16)}
"""Two modules whose rows never move."""


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


def factors(module: str, rank: int, seed: int = 0) -> tuple[Any, Any]:
    rng = np.random.default_rng([seed, rank])
    out, inputs = SHAPES[module]
    return rng.standard_normal((rank, inputs), np.float32), rng.standard_normal((out, rank), np.float32)


def peft_tensors(pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    return {
        f"base_model.model.{HF[module]}.lora_{half}.weight": factor
        for module, pair in pairs.items()
        for half, factor in zip("AB", pair, strict=True)
    }


def product(pair: tuple[Any, Any]) -> Any:
    return pair[1].astype(np.float64) @ pair[0]


def distance(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def stacked(
    adapters: list[AnyAdapter], base: GgufFile, plugins: Registry, path: Path, **options: Any
) -> Path:
    stack = LoraStack()
    for adapter in adapters:
        stack.push(adapter)
    exporter = next(one for one in plugins.exporters if one.name == "stacked adapter (GGUF)")
    list(exporter.export(ExportRequest(base, stack.by_key, stack.blend), path, exporter.Options(**options)))
    return path


def as_llama_cpp_reads(path: Path, module: str) -> Any:
    """The delta by alpha / the rank of the tensor, as ``llama_adapter_lora_weight::get_scale`` has it."""
    file = GgufFile.open(path)
    a, b = (file.dense(f"{module}.lora_{half}") for half in "ab")
    alpha: Any = file.metadata["adapter.lora.alpha"]
    file.close()
    return alpha / len(a) * product((a, b))


def test_rslora_is_not_too_weak_by_the_root_of_the_rank(
    small_base: SmallBase, write_peft: WritePeft, plugins: Registry, tmp_path: Path
) -> None:
    pair = factors(V, 4)
    folder = write_peft(tmp_path / "rs", peft_tensors({V: pair}), r=4, lora_alpha=8, use_rslora=True)
    adapter = read_adapter(folder, small_base(), plugins).adapter
    meant, converters = 8 / math.sqrt(4) * product(pair), 8 / 4 * product(pair)
    path = stacked([adapter], small_base(), plugins, tmp_path / "out.gguf")
    assert distance(as_llama_cpp_reads(path, V), meant) < 1e-6
    assert distance(converters, meant) == pytest.approx(1 - 1 / math.sqrt(4))


def test_alpha_patterns_count(
    small_base: SmallBase, write_peft: WritePeft, plugins: Registry, tmp_path: Path
) -> None:
    pairs = {V: factors(V, 2), OUTPUT: factors(OUTPUT, 2)}
    folder = write_peft(
        tmp_path / "pattern", peft_tensors(pairs), r=2, lora_alpha=4, alpha_pattern={"o_proj": 32}
    )
    adapter = read_adapter(folder, small_base(), plugins).adapter
    path = stacked([adapter], small_base(), plugins, tmp_path / "out.gguf")
    for module, alpha in ((V, 4), (OUTPUT, 32)):
        assert distance(as_llama_cpp_reads(path, module), alpha / 2 * product(pairs[module])) < 1e-6


def test_what_has_no_place_is_named_and_never_dropped_in_silence(
    small_base: SmallBase, write_peft: WritePeft, plugins: Registry, tmp_path: Path
) -> None:
    tensors = peft_tensors({V: factors(V, 2)})
    stray = "base_model.model.model.layers.77.self_attn.v_proj"
    tensors |= {
        f"{stray}.lora_A.weight": np.ones((2, 16), "f4"),
        f"{stray}.lora_B.weight": np.ones((8, 2), "f4"),
    }
    report = read_adapter(write_peft(tmp_path / "s", tensors), small_base(), plugins).report
    assert (report.matched, report.unmatched) == (1, ("blk.77.attn_v.weight",))
    assert "unmatched" in {finding.topic for finding in report.findings}


def test_an_adapter_on_a_tied_output_is_refused_by_name_or_held(
    write_peft: WritePeft, plugins: Registry, tmp_path: Path
) -> None:
    """llama.cpp's converter drops it; a stack cannot hold it and says so, a PEFT directory and a merge do."""
    rng = np.random.default_rng(0)
    tied: Any = {"general.architecture": "llama", "llama.attention.head_count": 4, "llama.block_count": 1}
    embedding = rng.standard_normal((32, 16), np.float32)
    write_gguf(tmp_path / "tied.gguf", tied, {"token_embd.weight": embedding})
    base = GgufFile.open(tmp_path / "tied.gguf")
    a, b = rng.standard_normal((2, 16), np.float32), rng.standard_normal((32, 2), np.float32)
    tensors = {"base_model.model.lm_head.lora_A.weight": a, "base_model.model.lm_head.lora_B.weight": b}
    adapter = read_adapter(write_peft(tmp_path / "head", tensors), base, plugins).adapter
    with pytest.raises(MismatchError, match="ties its output"):
        stacked([adapter], base, plugins, tmp_path / "out.gguf")
    stack = LoraStack()
    stack.push(adapter)
    request = ExportRequest(base, stack.by_key, stack.blend)
    for name, file in (("merged base (GGUF)", "merged.gguf"), ("PEFT directory", "peft")):
        exporter = next(one for one in plugins.exporters if one.name == name)
        options = exporter.Options(type="F32")
        list(exporter.export(request, tmp_path / file, options))
    merged = GgufFile.open(tmp_path / "merged.gguf")
    assert distance(merged.dense("output.weight"), embedding + 2 * product((a, b))) < 1e-6
    assert np.array_equal(merged.dense("token_embd.weight"), embedding)
    merged.close()
    again = read_adapter(tmp_path / "peft", base, plugins).adapter
    assert isinstance(again, Adapter)
    assert (
        distance(
            2 * product((a, b)),
            2 * product((again.factors["output.weight"].a, again.factors["output.weight"].b)),
        )
        < 1e-6
    )
    base.close()


@pytest.mark.parametrize("method", ["linear", "ties", "dare_linear"])
def test_deltas_are_combined_and_not_their_factors(method: str, plugins: Registry) -> None:
    """PEFT combines all A by themselves and all B by themselves: products of strangers come of it."""
    pairs = [factors(OUTPUT, 4, seed) for seed in (1, 2)]
    parts = [DeltaPart(a, b, 1.0, 1.0) for a, b in pairs]
    total = sum(map(product, pairs))
    found = next(one for one in plugins.combine_methods if one.name == method)
    keep_all = {} if method == "linear" else {"density": 1.0}
    ours = found.combine(OUTPUT, parts, found.Options(**keep_all))
    if method == "ties":  # by the paper: the sum of those that have the elected sign, over how many those are
        stacked_ = np.stack([product(pair) for pair in pairs])
        agrees = np.sign(stacked_) == np.sign(total)
        total = (stacked_ * agrees).sum(0) / np.maximum(agrees.sum(0), 1)
    assert distance(dense_delta(ours), total) < 1e-5
    theirs = algebra.per_factor(OUTPUT, parts, rule="linear", density=1.0, majority="total", seed=0)
    assert distance(dense_delta(theirs), sum(map(product, pairs))) > 0.5


def test_svd_scales_by_alpha_over_rank_once(
    small_base: SmallBase, write_peft: WritePeft, plugins: Registry, tmp_path: Path
) -> None:
    """PEFT up to 0.20 multiplies by it when it makes the delta and again when the result is heard."""
    pair = factors(OUTPUT, 2)
    folder = write_peft(tmp_path / "one", peft_tensors({OUTPUT: pair}), r=2, lora_alpha=16)
    stack = LoraStack()
    stack.push(read_adapter(folder, small_base(), plugins).adapter)
    svd = next(one for one in plugins.combine_methods if one.name == "svd")
    request = ExportRequest(small_base(), stack.by_key, stack.blend, Combination(svd, svd.Options(rank=2)))
    found = combined_delta(request, OUTPUT)
    assert found is not None
    assert distance(dense_delta(found), 8 * product(pair)) < 1e-5
    assert distance(64 * product(pair), 8 * product(pair)) == pytest.approx(7)


@pytest.mark.parametrize("alpha", [0.0, None])
def test_an_alpha_of_zero_or_none_is_llama_cpps(
    alpha: float | None,
    small_base: SmallBase,
    write_gguf_adapter: WriteGguf,
    plugins: Registry,
    tmp_path: Path,
) -> None:
    """There the user's scale alone counts; PEFT and oxillama would be silent. We never write such a file."""
    a, b = factors(V, 2)
    tensors = {f"{V}.lora_a": a, f"{V}.lora_b": b}
    path = write_gguf_adapter(tmp_path / "zero.gguf", tensors, {"adapter.lora.alpha": alpha})
    loaded = read_adapter(path, small_base(), plugins)
    assert isinstance(loaded.adapter, Adapter)
    pair = loaded.adapter.factors[V]
    assert distance(pair.scaling * product((pair.a, pair.b)), product((a, b))) < 1e-6
    assert {"zero-alpha", "no-alpha"} & {finding.topic for finding in loaded.report.findings}
    again = stacked([loaded.adapter], small_base(), plugins, tmp_path / "out.gguf")
    assert distance(as_llama_cpp_reads(again, V), product((a, b))) < 1e-6
    file = GgufFile.open(again)
    assert file.metadata["adapter.lora.alpha"] != 0
    file.close()


def test_readers_of_a_rank_in_the_metadata_agree_where_ranks_are_made_one(
    small_base: SmallBase, write_peft: WritePeft, plugins: Registry, tmp_path: Path
) -> None:
    """oxillama divides by ``lora.r``, by 8 where there is none: a file of rank 2 is 4 times too weak."""
    pairs = {V: factors(V, 2), OUTPUT: factors(OUTPUT, 5)}
    folder = write_peft(tmp_path / "two", peft_tensors(pairs), r=2, lora_alpha=4, rank_pattern={"o_proj": 5})
    adapter = read_adapter(folder, small_base(), plugins).adapter
    path = stacked([adapter], small_base(), plugins, tmp_path / "o.gguf", uniform_rank=True)
    file = GgufFile.open(path)
    scaling: Any = file.metadata["lora.alpha"] / file.metadata["lora.r"]  # type: ignore[operator]
    for module, pair in pairs.items():
        theirs = scaling * product((file.dense(f"{module}.lora_a"), file.dense(f"{module}.lora_b")))
        meant = 4 / len(pair[0]) * product(pair)
        assert distance(theirs, meant) < 1e-6
        assert distance(as_llama_cpp_reads(path, module), meant) < 1e-6
    file.close()
