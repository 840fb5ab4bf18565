"""A base held in NF4."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import (
    BASE_ALONE,
    BaseModel,
    BlendChannel,
    BlendState,
    CompactTensors,
    Example,
)
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.residency import Residency
from studio.engine.stored import StoredWeight
from studio.errors import FormatError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.formats.nf4 import quantise_nf4
from studio.learning.nf4_base import Nf4Base
from studio.lora.creation import create_adapter

Open = Callable[[str], GgufFile]
Q = "blk.0.attn_q.weight"
TOKENS = (5, 3, 7, 7, 1, 12, 9)


@pytest.fixture
def open_tiny(data_dir: Path) -> Iterator[Open]:
    """Open a tiny model of an architecture."""
    opened: list[GgufFile] = []

    def open_(name: str) -> GgufFile:
        opened.append(GgufFile.open(data_dir / "architectures" / f"{name}.gguf"))
        return opened[-1]

    yield open_
    for base in opened:
        base.close()


def engine_on(base: BaseModel, residency: Residency) -> LocalEngine:
    engine = LocalEngine(choose_backend("numpy"), residency)
    engine.open(base)
    return engine


def relative(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def test_linear_weights_are_nf4_and_the_rest_is_as_it_was(open_tiny: Open) -> None:
    base = open_tiny("llama")
    nf4 = Nf4Base(base)
    assert isinstance(nf4, BaseModel) and isinstance(nf4, CompactTensors)
    np.testing.assert_array_equal(nf4.dense(Q), quantise_nf4(base.dense(Q)).dense())
    for name in ("token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight"):
        assert not nf4.compact(name)
        assert nf4.tensors[name].type_name == "F32"
        np.testing.assert_array_equal(nf4.dense(name), base.dense(name))
    assert nf4.tensors[Q].type_name == nf4.file_type == "NF4"
    assert nf4.tensors[Q].nbytes == sum(part.nbytes for part in nf4.compact(Q))
    assert nf4.compact(Q) is nf4.compact(Q)
    assert (nf4.architecture, nf4.path, nf4.name) == (base.architecture, base.path, base.name)


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral"])
def test_it_answers_alike_whether_it_lies_in_nf4_or_in_floats(open_tiny: Open, name: str) -> None:
    base = Nf4Base(open_tiny(name))
    small = engine_on(base, "quantised").evaluate(TOKENS, BASE_ALONE).logits
    dense = engine_on(base, "dense").evaluate(TOKENS, BASE_ALONE).logits
    original = engine_on(open_tiny(name), "dense").evaluate(TOKENS, BASE_ALONE).logits
    assert relative(small, dense) < 1e-5
    assert relative(small, original) > 1e-3  # another model, though near


@pytest.mark.parametrize("name", ["llama", "gemma2", "mixtral"])
def test_it_learns_alike_whether_it_lies_in_nf4_or_in_floats(open_tiny: Open, name: str) -> None:
    base = Nf4Base(open_tiny(name))
    adapter = create_adapter(base, rank=4, alpha=8, targets=["attn_q", "attn_output"], seed=1)
    state = BlendState((BlendChannel("new", adapter.version, 1.0),))
    residencies: tuple[Residency, ...] = ("quantised", "dense")
    found = []
    for residency in residencies:
        engine = engine_on(base, residency)
        engine.attach({"new": adapter})
        found.append(engine.gradients([Example.of(TOKENS)], state, train="new"))
    small, dense = found
    assert small.loss.total == pytest.approx(dense.loss.total, rel=1e-5)
    assert relative(small.factors[Q].b, dense.factors[Q].b) < 1e-4


def test_products_are_those_of_float64(open_tiny: Open) -> None:
    nf4 = Nf4Base(open_tiny("llama"))
    weight, exact = StoredWeight.read(nf4, Q), nf4.dense(Q).astype(np.float64)
    random = np.random.default_rng(2)
    inputs = random.standard_normal((exact.shape[1], 5), dtype=np.float32)
    outputs = random.standard_normal((exact.shape[0], 5), dtype=np.float32)
    assert relative(weight.matmul(inputs), exact @ inputs) < 1e-6
    assert relative(weight.matmul_transposed(outputs), exact.T @ outputs) < 1e-6
    np.testing.assert_array_equal(weight.rows(np.array([3, 0])), nf4.dense(Q)[[3, 0]])


def test_its_weights_take_an_eighth_of_the_floats(open_tiny: Open) -> None:
    nf4 = Nf4Base(open_tiny("llama"))
    engine = engine_on(nf4, "quantised")
    vectors = {name for name, info in nf4.tensors.items() if len(info.shape) == 1}
    kept = sum(info.nbytes for name, info in nf4.tensors.items() if name not in vectors)
    assert engine.weights.nbytes == kept
    small = sum(info.nbytes for info in nf4.tensors.values() if info.type_name == "NF4")
    floats = sum(nf4.dense(info.name).nbytes for info in nf4.tensors.values() if info.type_name == "NF4")
    assert small < 0.14 * floats


def test_what_is_quantised_already_is_refused(smollm2_path: Path) -> None:
    base = GgufFile.open(smollm2_path)
    with pytest.raises(UnsupportedError, match=r"its weights are Q4_1.*Train without NF4"):
        Nf4Base(base)
    base.close()


def test_a_weight_that_is_not_finite_is_named(open_tiny: Open, monkeypatch: pytest.MonkeyPatch) -> None:
    base = open_tiny("llama")
    monkeypatch.setattr(base, "dense", lambda name: np.full(base.tensors[name].shape, np.nan, np.float32))
    with pytest.raises(FormatError, match=Q):
        Nf4Base(base).dense(Q)
