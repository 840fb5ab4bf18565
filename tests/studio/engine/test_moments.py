"""Second moments of inputs: those that a forward pass of the test's own sees."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, never
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.moments import MomentRecorder
from studio.formats.gguf_file import GgufFile

TOKENS = [3, 14, 15, 92, 65, 35]


@pytest.fixture(params=["llama", "mixtral"])
def engine(request: pytest.FixtureRequest, data_dir: Path) -> Iterator[LocalEngine]:
    base = GgufFile.open(data_dir / "architectures" / f"{request.param}.gguf")
    engine = LocalEngine(choose_backend("numpy"), "dense")
    engine.open(base)
    engine.attach({})
    yield engine
    engine.close()
    base.close()


def test_the_first_layers_inputs_are_the_normed_embedding(data_dir: Path) -> None:
    base = GgufFile.open(data_dir / "architectures" / "llama.gguf")
    engine = LocalEngine(choose_backend("numpy"), "dense")
    engine.open(base)
    recorder = MomentRecorder(engine, ["blk.0.attn_k.weight"])
    recorder.feed(TOKENS[:4], BASE_ALONE, never)
    recorder.feed(TOKENS[4:], BASE_ALONE, never)
    moments = recorder.moments()
    engine.close()
    embedded = base.dense("token_embd.weight")[TOKENS].astype(np.float64)
    epsilon = base.metadata["llama.attention.layer_norm_rms_epsilon"]
    normed = embedded / np.sqrt(np.mean(embedded**2, axis=1, keepdims=True) + epsilon)
    normed *= base.dense("blk.0.attn_norm.weight")
    expected = normed.T @ normed / len(TOKENS)
    base.close()
    assert set(moments) == {f"blk.0.attn_{part}.weight" for part in "qkv"}
    assert np.linalg.norm(moments["blk.0.attn_q.weight"] - expected) < 1e-5 * np.linalg.norm(expected)


def test_every_weight_has_one(engine: LocalEngine) -> None:
    groups = [*engine.weights.linears, *engine.weights.experts]
    recorder = MomentRecorder(engine, [name for group in groups for name in group])
    recorder.feed(TOKENS, BASE_ALONE, never)
    moments = recorder.moments()
    for group in groups:
        moment = moments[group[0]]
        np.testing.assert_allclose(moment, moment.T, atol=1e-4)
        assert np.linalg.eigvalsh(moment.astype(np.float64)).min() > -1e-4 * np.abs(moment).max()
        assert all(moments[name] is moment for name in group)


def test_the_engine_is_as_it_was_afterwards(engine: LocalEngine) -> None:
    before = engine.evaluate(TOKENS, BASE_ALONE).logits
    recorder = MomentRecorder(engine, ["blk.0.ffn_down.weight", "blk.0.attn_output.weight"])
    recorder.feed(TOKENS, BASE_ALONE, never)
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, before)
    recorder.moments()
