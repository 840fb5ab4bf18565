"""Merged files beside llama.cpp's own quantisation, and in llama.cpp itself."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import ExportRequest
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf
from studio.formats.quantisation_mixes import MIXES
from studio.jobs.merge_options import MergeOptions
from studio.jobs.merging import merge
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.stack import LoraStack

pytestmark = pytest.mark.peers

ROOT = Path(__file__).parent.parent.parent
LAYERS = 16

LlamaCpp = Callable[[Path, Sequence[int], Sequence[tuple[Path, float]]], Any]


def finish(work: Any) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def write_base(path: Path, width: int, groups: int, experts: int, *, tied: bool) -> GgufFile:
    """Write a llama of random weights, 16 layers of it."""
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (32, width), "output_norm.weight": (width,)}
    if not tied:
        shapes["output.weight"] = (32, width)
    keys = width * groups // 8
    for layer in range(LAYERS):
        outer = {"attn_q": (width, width), "attn_k": (keys, width), "attn_v": (keys, width)}
        outer["attn_output"] = (width, width)
        inner = {"ffn_gate": (width, width), "ffn_up": (width, width), "ffn_down": (width, width)}
        if experts:
            inner = {f"{name}_exps": (experts, *shape) for name, shape in inner.items()}  # type: ignore[misc]
            inner["ffn_gate_inp"] = (experts, width)
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in (outer | inner).items()}
        shapes |= {f"blk.{layer}.{name}_norm.weight": (width,) for name in ("attn", "ffn")}
    metadata: dict[str, Any] = {
        "general.architecture": "llama",
        "llama.block_count": LAYERS,
        "llama.context_length": 64,
        "llama.embedding_length": width,
        "llama.feed_forward_length": width,
        "llama.attention.head_count": 8,
        "llama.attention.head_count_kv": groups,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": width // 8,
    }
    if experts:
        metadata |= {"llama.expert_count": experts, "llama.expert_used_count": 2}
    rng = np.random.default_rng(0)
    write_gguf(
        path, metadata, {name: rng.standard_normal(shape, np.float32) for name, shape in shapes.items()}
    )
    return GgufFile.open(path)


def request_of(base: GgufFile) -> ExportRequest:
    rng = np.random.default_rng(1)
    factors = {}
    for name, info in base.tensors.items():
        if name.startswith("blk.") and "norm" not in name and "inp" not in name:
            *experts, out, width = info.shape
            a = rng.standard_normal((*experts, 2, width), np.float32)
            b = 0.1 * rng.standard_normal((*experts, out, 2), np.float32)
            factors[name] = LoraFactors(a, b.astype(np.float32), alpha=2)
    stack = LoraStack()
    stack.push(Adapter("a", factors), 0.5)
    return ExportRequest(base, stack.by_key, stack.blend)


@pytest.fixture(
    scope="module",
    params=[(256, 4, 0, True), (256, 2, 0, False), (96, 4, 0, False), (256, 2, 8, False)],
    ids=["tied", "grouped", "narrow", "experts"],
)
def request_(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ExportRequest]:
    width, groups, experts, tied = request.param
    base = write_base(tmp_path_factory.mktemp("base") / "base.gguf", width, groups, experts, tied=tied)
    yield request_of(base)
    base.close()


@pytest.mark.parametrize("mix", [mix for mix in MIXES if mix != "F32"])
def test_a_merge_to_a_mix_is_what_llama_quantize_makes_of_the_merge(
    request_: ExportRequest, mix: str, tmp_path: Path, peers_python: str
) -> None:
    plain, ours, theirs = (tmp_path / f"{name}.gguf" for name in ("plain", "ours", "theirs"))
    finish(merge(request_, plain, MergeOptions(type="F32")))
    finish(merge(request_, ours, MergeOptions(type=mix)))
    script = ROOT / "benchmarks" / "peers" / "llama_quantize.py"
    command = [peers_python, str(script), str(plain), str(theirs), str(MIXES[mix].number)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    mine, quantised = GgufFile.open(ours), GgufFile.open(theirs)
    for name, info in quantised.tensors.items():
        assert mine.tensors[name] == info
        assert np.array_equal(mine.raw(name), quantised.raw(name)), name
    assert mine.tensors.keys() == quantised.tensors.keys()
    for key in ("general.file_type", "general.quantization_version"):
        assert mine.metadata[key] == quantised.metadata[key]
    mine.close()
    quantised.close()


@pytest.mark.parametrize("type_name", ["F32", "keep"])
def test_llama_cpp_runs_a_merge_as_it_runs_base_and_adapter(
    smollm2_path: Path, adapters_dir: Path, tmp_path: Path, llama_cpp: LlamaCpp, type_name: str
) -> None:
    """Base and adapter in float32 differ from the merge by the order of sums; a quantised merge is near."""
    from studio.registry import load_plugins

    plugins = load_plugins()
    base = GgufFile.open(smollm2_path)
    loader = next(one for one in plugins.adapter_loaders if one.name == "PEFT directory")
    adapter = loader.load(adapters_dir / "smollm2-fortune", base, loader.Options())
    stack = LoraStack()
    stack.push(adapter, 1.0)  # type: ignore[arg-type]
    request = ExportRequest(base, stack.by_key, stack.blend)
    merged, stacked, plain = (tmp_path / f"{name}.gguf" for name in ("merged", "stacked", "plain"))
    finish(merge(request, merged, MergeOptions(type=type_name, rounding="unbiased")))
    exporter = next(one for one in plugins.exporters if one.name == "stacked adapter (GGUF)")
    finish(exporter.export(request, stacked, exporter.Options()))
    metadata = {**base.metadata, "general.file_type": np.uint32(0)}
    write_gguf(plain, metadata, {name: base.dense(name) for name in base.tensors})
    base.close()
    tokens = [504, 3575, 282, 4649, 314]
    live, alone = llama_cpp(plain, tokens, [(stacked, 1.0)]), llama_cpp(plain, tokens, [])
    found = llama_cpp(merged, tokens, [])
    error = np.linalg.norm(found - live) / np.linalg.norm(live)
    effect = np.linalg.norm(alone - live) / np.linalg.norm(live)
    assert error < (1e-4 if type_name == "F32" else 0.7 * effect)
