"""Any blend, written by our exporters and read by our loaders in any order, is the same blend in the end."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.api import Adapter, ExportRequest, GgufFile
from studio.jobs.exporting import export
from studio.jobs.opening import read_adapter
from studio.jobs.options import make_options
from studio.lora.stack import LoraStack
from studio.registry import Registry, load_plugins

SmallBase = Callable[..., GgufFile]
MakeBlend = Callable[..., LoraStack]
Deltas = Callable[[LoraStack, str], Any]

HOPS: dict[str, tuple[str, dict[str, object], str]] = {
    "stacked": ("stacked adapter (GGUF)", {}, "llama.cpp GGUF adapter"),
    "uniform": ("stacked adapter (GGUF)", {"uniform_rank": True}, "llama.cpp GGUF adapter"),
    "peft": ("PEFT directory", {}, "PEFT directory"),
    "mlx": ("MLX directory", {}, "MLX-LM directory"),
    "zerfoo, training": ("zerfoo adapter (GGUF)", {"dialect": "training"}, "zerfoo GGUF adapter"),
    "zerfoo, inference": ("zerfoo adapter (GGUF)", {"dialect": "inference"}, "zerfoo GGUF adapter"),
}
"""An exporter, its options, and the loader that reads what it writes."""

TARGETS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")
MODULES = [f"blk.{layer}.{target}.weight" for layer in (0, 1) for target in TARGETS]
ENDS = ["output.weight", "token_embd.weight"]

adapters = st.tuples(
    st.dictionaries(st.sampled_from(MODULES + ENDS), st.integers(1, 5), min_size=1),
    st.sampled_from([1.0, 0.3, -1.25, 1e-4, 300.0]),
)


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


def hop(name: str, stack: LoraStack, base: GgufFile, plugins: Registry, folder: Path) -> LoraStack:
    """Export a blend as people do, read it back as people do, and put it on a stack at scale 1."""
    exporter_name, options, loader_name = HOPS[name]
    exporter = next(one for one in plugins.exporters if one.name == exporter_name)
    path = folder / f"out{exporter.suffix}"
    request = ExportRequest(base, stack.by_key, stack.blend)
    list(export(request, exporter, path, make_options(exporter, options)))
    loaded = read_adapter(path, base, plugins)
    assert loaded.report.format == loader_name
    assert loaded.report.unmatched == ()
    assert isinstance(loaded.adapter, Adapter)
    back = LoraStack()
    back.push(loaded.adapter)
    return back


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    members=st.lists(adapters, min_size=1, max_size=3), hops=st.lists(st.sampled_from(list(HOPS)), max_size=3)
)
@pytest.mark.parametrize("first", list(HOPS))
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_any_way_through_the_formats_changes_nothing(
    architecture: str,
    first: str,
    members: list[tuple[dict[str, int], float]],
    hops: list[str],
    small_base: SmallBase,
    make_blend: MakeBlend,
    dense_blend: Deltas,
    plugins: Registry,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """Of llama the rows of Q and K are permuted on the way to Hugging Face's names and back; not of qwen2."""
    way = [first, *hops]
    if any(name.startswith("zerfoo") for name in way):  # which adapts linear modules alone
        members = [
            ({"output.weight": 2} | {name: rank for name, rank in ranks.items() if "embd" not in name}, scale)
            for ranks, scale in members
        ]
    base = small_base(architecture)
    blend = make_blend(*members)
    stack = blend
    for name in way:
        stack = hop(name, stack, base, plugins, tmp_path_factory.mktemp("hop"))
    touched = {module for ranks, _ in members for module in ranks}
    (loaded,) = stack.by_key.values()
    assert set(loaded.modules) == touched
    for module in touched:
        wanted, found = dense_blend(blend, module), dense_blend(stack, module)
        assert np.linalg.norm(found - wanted) < 1e-5 * np.linalg.norm(wanted), module
