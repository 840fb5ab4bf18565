"""The stacked adapter in llama.cpp, beside the adapters it was made of and beside our own engine.

The base is written out in float32, so that llama.cpp multiplies in float32 as well: on the quantised file it
rounds activations to 8 bits, and a difference in the last digit that flips one rounding grows from there. In
float32 the stack differs from its parts by the order of sums alone. Measured: 3e-7 in F32, 1e-5 in F16, 4e-7
against our engine; the bounds leave more than an order of magnitude for other processors.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import Adapter, GgufFile, write_gguf
from studio.contracts import BaseModel, Evaluation, ExportRequest, Plugins
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.lora.stack import LoraStack
from studio.registry import load_plugins

pytestmark = pytest.mark.peers

SCALES = {"smollm2-fortune": 0.5, "smollm2-python": 1.0, "smollm2-legal": -0.3}


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


@pytest.fixture(scope="module")
def base(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory, peers_python: str) -> BaseModel:
    """The demo's base in float32."""
    quantised = GgufFile.open(smollm2_path)
    path = tmp_path_factory.mktemp("base") / "smollm2-f32.gguf"
    metadata = {**quantised.metadata, "general.file_type": np.uint32(0)}
    write_gguf(path, metadata, {name: quantised.dense(name) for name in quantised.tensors})
    quantised.close()
    return GgufFile.open(path)


@pytest.fixture(scope="module")
def stack(base: BaseModel, plugins: Plugins, adapters_dir: Path) -> LoraStack:
    """The three adapters, stacked."""
    loader = next(loader for loader in plugins.adapter_loaders if loader.name == "PEFT directory")
    stack = LoraStack()
    for name, scale in SCALES.items():
        adapter = loader.load(adapters_dir / name, base, loader.Options())
        assert isinstance(adapter, Adapter)
        stack.push(adapter, scale)
    return stack


def export(stack: LoraStack, base: BaseModel, plugins: Plugins, path: Path, type_name: str = "F32") -> Path:
    exporter = next(one for one in plugins.exporters if one.name == "stacked adapter (GGUF)")
    request = ExportRequest(base, stack.by_key, stack.blend)
    list(exporter.export(request, path, exporter.Options(type=type_name)))
    return path


def export_parts(
    stack: LoraStack, base: BaseModel, plugins: Plugins, folder: Path
) -> list[tuple[Path, float]]:
    """Write each adapter by itself at scale 1, and give back the scale that it has on the stack."""
    parts = []
    for adapter, scale in stack.entries:
        alone = LoraStack()
        alone.push(adapter)
        parts.append((export(alone, base, plugins, folder / f"{adapter.name}.gguf"), scale))
    return parts


def distance(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize(("type_name", "tolerance"), [("F32", 1e-5), ("F16", 1e-3)])
def test_the_stack_is_its_parts(
    llama_cpp: Callable[..., Any],
    base: BaseModel,
    stack: LoraStack,
    plugins: Plugins,
    reference: list[Any],
    tmp_path: Path,
    type_name: str,
    tolerance: float,
) -> None:
    tokens = reference[4].tokens
    parts = export_parts(stack, base, plugins, tmp_path)
    stacked = export(stack, base, plugins, tmp_path / "stacked.gguf", type_name)
    together = llama_cpp(base.path, tokens, [(stacked, 1.0)])
    apart = llama_cpp(base.path, tokens, parts)
    untouched = llama_cpp(base.path, tokens, [])
    assert distance(together, apart) < tolerance
    assert distance(together, untouched) > 0.05


def test_llama_cpp_and_our_engine_agree_on_the_stack(
    llama_cpp: Callable[..., Any],
    base: BaseModel,
    stack: LoraStack,
    plugins: Plugins,
    reference: list[Any],
    tmp_path: Path,
) -> None:
    tokens = reference[4].tokens
    stacked = export(stack, base, plugins, tmp_path / "stacked.gguf")
    engine = LocalEngine(choose_backend("numpy"))
    try:
        engine.open(base)
        engine.attach(stack.by_key)
        ours: Evaluation = engine.evaluate(tokens, stack.blend)
    finally:
        engine.close()
    assert distance(llama_cpp(base.path, tokens, [(stacked, 1.0)]), ours.logits) < 1e-5


def test_the_stack_loads_on_the_quantised_base(
    llama_cpp: Callable[..., Any],
    smollm2_path: Path,
    base: BaseModel,
    stack: LoraStack,
    plugins: Plugins,
    reference: list[Any],
    tmp_path: Path,
) -> None:
    stacked = export(stack, base, plugins, tmp_path / "stacked.gguf")
    parts = export_parts(stack, base, plugins, tmp_path)
    tokens = reference[4].tokens
    together, apart = (llama_cpp(smollm2_path, tokens, adapters) for adapters in ([(stacked, 1.0)], parts))
    assert distance(together, apart) < 0.05  # measured: 7e-3, from rounded activations
