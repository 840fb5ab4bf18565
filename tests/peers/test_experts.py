"""Adapters on experts in llama.cpp: the stack that we export there, beside our own engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import Adapter, GgufFile, write_gguf
from studio.contracts import ExportRequest
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.lora.stack import LoraStack
from studio.registry import load_plugins

pytestmark = pytest.mark.peers

FOLDER = Path(__file__).parents[1] / "data" / "architectures"
TOKENS = list(range(5, 65, 3))


def distance(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("name", ["mixtral", "qwen2moe", "qwen3moe"])
def test_llama_cpp_and_our_engine_agree_on_a_stack_on_experts(
    llama_cpp: Callable[..., Any], tmp_path: Path, name: str
) -> None:
    half = GgufFile.open(FOLDER / f"{name}.gguf")
    dense = {tensor: half.dense(tensor) for tensor in half.tensors}
    write_gguf(tmp_path / "base.gguf", {**half.metadata, "general.file_type": np.uint32(0)}, dense)
    half.close()
    base = GgufFile.open(tmp_path / "base.gguf")
    plugins = load_plugins()
    loader = next(loader for loader in plugins.adapter_loaders if loader.name == "PEFT directory")
    exporter = next(one for one in plugins.exporters if one.name == "stacked adapter (GGUF)")
    stack = LoraStack()
    adapter = loader.load(FOLDER / f"{name}-peft", base, loader.Options())
    assert isinstance(adapter, Adapter)
    stack.push(adapter, 0.6)
    list(
        exporter.export(
            ExportRequest(base, stack.by_key, stack.blend), tmp_path / "stacked.gguf", exporter.Options()
        )
    )
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach(stack.by_key)
    ours = engine.evaluate(TOKENS, stack.blend).logits
    theirs = llama_cpp(base.path, TOKENS, [(tmp_path / "stacked.gguf", 1.0)])
    base.close()
    assert distance(theirs, ours) < 1e-4
    assert distance(llama_cpp(base.path, TOKENS, []), ours) > 0.1
