"""Gradients beside those of torch and PEFT, in float32 on both sides."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BlendChannel, BlendState, Example
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio.lora.adapter import Adapter, LoraFactors

pytestmark = pytest.mark.peers

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers" / "peft_gradients.py"
RANK, ALPHA = 8, 16


def random_adapter(base: GgufFile, random: np.random.Generator) -> Adapter:
    """Make factors on every linear weight of every layer, none of them 0."""
    factors = {}
    for name, info in base.tensors.items():
        if name.startswith("blk.") and len(info.shape) == 2:
            out, inputs = info.shape
            a = random.standard_normal((RANK, inputs), np.float32) / np.float32(np.sqrt(inputs))
            b = random.standard_normal((out, RANK), np.float32) * np.float32(0.05)
            factors[name] = LoraFactors(a, b, ALPHA)
    return Adapter("random", factors, architecture=base.architecture)


def distance(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("real", [False, True])
def test_gradients_are_those_of_peft(
    peers_python: str,
    tmp_path: Path,
    data_dir: Path,
    smollm2_path: Path,
    hugging_face: Callable[..., Any],
    real: bool,
) -> None:
    """Of texts of different lengths on SmolLM2 and on a random llama, for factors on every linear weight."""
    base = GgufFile.open(smollm2_path if real else data_dir / "architectures" / "mistral.gguf")
    model, random = hugging_face(base), np.random.default_rng()
    vocabulary = base.tensors["token_embd.weight"].shape[0]
    examples = []
    for length in (48, 20):
        weights = random.choice([0.0, 1.0], length)
        weights[-1] = 1
        examples.append(
            Example(tuple(random.integers(0, vocabulary, length).tolist()), tuple(weights.tolist()))
        )
    request: dict[str, Any] = {f"size {name}": size for name, size in model.sizes.items()}
    request |= {"eps": model.epsilon, "theta": model.theta, "rank": RANK, "alpha": ALPHA}
    request |= {f"model {name}": weight for name, weight in model.weights.items()}
    adapter = random_adapter(base, random)
    for name, factors in adapter.factors.items():
        request[f"a {model.module(name)}"] = factors.a
        request[f"b {model.module(name)}"] = model.rows(name, factors.b)
    for index, example in enumerate(examples):
        request[f"tokens {index}"] = np.array(example.tokens)
        request[f"weights {index}"] = np.array(example.weights, np.float32)
    np.savez(tmp_path / "request.npz", **request)
    del request
    files = [str(SCRIPT), str(tmp_path / "request.npz"), str(tmp_path / "gradients.npz")]
    done = subprocess.run([peers_python, *files], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]

    engine = LocalEngine(choose_backend("numpy"), "dense")
    engine.open(base)
    engine.attach({"a": adapter})
    found = engine.gradients(examples, BlendState((BlendChannel("a", adapter.version, 1.0),)), train="a")
    with np.load(tmp_path / "gradients.npz") as wanted:
        assert found.loss.total == pytest.approx(float(wanted["loss"]), rel=1e-5)
        assert len(found.factors) == (len(wanted.files) - 1) // 2
        errors = []
        for name, gradients in found.factors.items():
            errors.append(distance(gradients.a, wanted[f"a {model.module(name)}"]))
            errors.append(distance(model.rows(name, gradients.b), wanted[f"b {model.module(name)}"]))
    print(f"at most {max(errors):.1e}")
    assert max(errors) < 1e-4
    engine.close()
    base.close()
