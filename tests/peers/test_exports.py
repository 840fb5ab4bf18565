"""What we export, in the peers: transformers, PEFT and llama.cpp load it and answer alike.

The fixtures' adapters were made by PEFT, whose logits lie beside them. Measured: 0 to 1e-6 in PEFT and
transformers, 1e-6 in llama.cpp in F32.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import Adapter, BaseModel, ExportRequest, GgufFile, LoraFactors, write_gguf
from studio.contracts import Exporter, Plugins
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.lora.stack import LoraStack
from studio.registry import load_plugins

pytestmark = pytest.mark.peers

FOLDER = Path(__file__).parents[1] / "data" / "architectures"
SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers" / "hf_logits.py"
REFUSED = {"olmo3", "stablelm-parallel"}
MODELS = sorted(path.stem for path in FOLDER.glob("*.gguf") if path.stem not in REFUSED)
ADAPTED = [name for name in MODELS if (FOLDER / f"{name}-peft").exists()]


@pytest.fixture(scope="module")
def plugins() -> Plugins:
    return load_plugins()


def distance(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def exporter_of(plugins: Plugins, part: str) -> Exporter:
    return next(one for one in plugins.exporters if part in one.name)


def blend_of(plugins: Plugins, base: BaseModel, name: str) -> LoraStack:
    """Stack the fixture's adapter, or one that adds nothing where there is none."""
    stack = LoraStack()
    if name in ADAPTED:
        loader = next(loader for loader in plugins.adapter_loaders if loader.name == "PEFT directory")
        adapter = loader.load(FOLDER / f"{name}-peft", base, loader.Options())
        assert isinstance(adapter, Adapter)
        stack.push(adapter)
    else:
        stack.push(nothing(base))
    return stack


def nothing(base: BaseModel) -> Adapter:
    out, inputs = base.tensors["blk.0.attn_output.weight"].shape
    pair = LoraFactors(np.zeros((1, inputs), np.float32), np.zeros((out, 1), np.float32), 1.0)
    return Adapter("nothing", {"blk.0.attn_output.weight": pair})


def export(plugins: Plugins, base: BaseModel, stack: LoraStack, to: str, path: Path, **options: Any) -> Path:
    exporter = exporter_of(plugins, to)
    request = ExportRequest(base, stack.by_key, stack.blend)
    list(exporter.export(request, path, exporter.Options(**options)))
    return path


def peers_logits(python: str, cases: Sequence[dict[str, Any]], folder: Path) -> Any:
    request, out = folder / "request.json", folder / "logits.npz"
    request.write_text(json.dumps(cases), encoding="utf-8")
    done = subprocess.run(
        [python, str(SCRIPT), str(request), str(out)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(out)


def test_transformers_loads_the_merged_folder_of_every_architecture(
    peers_python: str, plugins: Plugins, tmp_path: Path
) -> None:
    cases = []
    for name in MODELS:
        base = GgufFile.open(FOLDER / f"{name}.gguf")
        stack = blend_of(plugins, base, name)
        path = export(plugins, base, stack, "Hugging Face", tmp_path / name, type="F32", shard_gigabytes=1e-4)
        base.close()
        tokens = np.load(FOLDER / f"{name}.npz")["tokens_0"].tolist()
        cases.append({"name": name, "model": str(path), "adapter": None, "tokens": tokens})
    found = peers_logits(peers_python, cases, tmp_path)
    for name in MODELS:
        wanted = np.load(FOLDER / f"{name}.npz")["adapted_0" if name in ADAPTED else "logits_0"]
        assert distance(found[name], wanted) < 1e-5, name


def test_peft_loads_the_directory_of_every_architecture(
    peers_python: str, plugins: Plugins, tmp_path: Path
) -> None:
    """On the base alone, which is merged with nothing to bring it into Hugging Face's form."""
    cases = []
    for name in ADAPTED:
        base = GgufFile.open(FOLDER / f"{name}.gguf")
        stack, empty = blend_of(plugins, base, name), LoraStack()
        empty.push(nothing(base))
        model = export(plugins, base, empty, "Hugging Face", tmp_path / f"{name}-base", type="F32")
        adapter = export(plugins, base, stack, "PEFT", tmp_path / f"{name}-peft")
        base.close()
        tokens = np.load(FOLDER / f"{name}.npz")["tokens_0"].tolist()
        cases.append({"name": name, "model": str(model), "adapter": str(adapter), "tokens": tokens})
    found = peers_logits(peers_python, cases, tmp_path)
    for name in ADAPTED:
        reference = np.load(FOLDER / f"{name}.npz")
        assert distance(found[name], reference["adapted_0"]) < 1e-5, name
        assert distance(reference["logits_0"], reference["adapted_0"]) > 0.1


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({"type": "F32"}, 1e-5),
        ({"type": "F16"}, 2e-3),
        ({"type": "BF16"}, 2e-2),
        ({"type": "Q8_0"}, 5e-2),
        ({"type": "F32", "uniform_rank": True}, 1e-5),
    ],
)
def test_llama_cpp_loads_every_type_of_a_stack_of_several_ranks(
    llama_cpp: Callable[..., Any],
    plugins: Plugins,
    tmp_path: Path,
    options: dict[str, Any],
    tolerance: float,
) -> None:
    half = GgufFile.open(FOLDER / "llama.gguf")
    dense = {tensor: half.dense(tensor) for tensor in half.tensors}
    write_gguf(tmp_path / "base.gguf", {**half.metadata, "general.file_type": np.uint32(0)}, dense)
    half.close()
    base = GgufFile.open(tmp_path / "base.gguf")
    stack = blend_of(plugins, base, "llama")
    rng = np.random.default_rng(0)
    rows, width = base.tensors["token_embd.weight"].shape
    pair = LoraFactors(
        0.1 * rng.standard_normal((3, width), np.float32),
        0.1 * rng.standard_normal((rows, 3), np.float32),
        6.0,
    )
    stack.push(Adapter("ends", dict.fromkeys(["token_embd.weight", "output.weight"], pair)), -0.7)
    stacked = export(plugins, base, stack, "stacked", tmp_path / "stacked.gguf", **options)
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach(stack.by_key)
    tokens = list(range(5, 65, 3))
    ours = engine.evaluate(tokens, stack.blend).logits
    engine.close()
    assert distance(llama_cpp(base.path, tokens, [(stacked, 1.0)]), ours) < tolerance
    assert distance(llama_cpp(base.path, tokens, []), ours) > 0.1
    base.close()
