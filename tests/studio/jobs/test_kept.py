"""How much of a delta is left in a merged model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import ExportRequest
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf
from studio.jobs.kept import delta_kept
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.stack import LoraStack

ARCHITECTURE: dict[str, Any] = {"general.architecture": "llama"}


@pytest.fixture
def request_(tmp_path: Path) -> ExportRequest:
    rng = np.random.default_rng(0)
    tensors = {
        name: rng.standard_normal((32, 64), np.float32)
        for name in ("blk.0.attn_q.weight", "blk.0.attn_v.weight", "token_embd.weight")
    }
    write_gguf(tmp_path / "base.gguf", ARCHITECTURE, tensors)
    factors = {
        name: LoraFactors(rng.random((2, 64), np.float32), rng.random((32, 2), np.float32), 1.0)
        for name in ("blk.0.attn_q.weight", "blk.0.attn_v.weight", "output.weight")
    }
    stack = LoraStack()
    stack.push(Adapter("a", factors), 0.5)
    return ExportRequest(GgufFile.open(tmp_path / "base.gguf"), stack.by_key, stack.blend)


def kept(request: ExportRequest, path: Path, shares: dict[str, float], noise: float = 0.0) -> Any:
    """Merge a share of each delta, with noise at right angles to it in size, and compare."""
    (adapter,) = request.adapters.values()
    assert isinstance(adapter, Adapter)
    rng = np.random.default_rng(1)
    tensors = {}
    for name, share in shares.items():
        pair = adapter.factors[name]
        delta = 0.5 * pair.scaling * (pair.b @ pair.a)
        other = rng.standard_normal(delta.shape, np.float32)
        other -= np.sum(other * delta) / np.sum(delta * delta) * delta
        other *= noise * np.linalg.norm(delta) / np.linalg.norm(other)
        stored = name if name in request.base.tensors else "token_embd.weight"
        tensors[name] = request.base.dense(stored) + share * delta + other
    write_gguf(path, ARCHITECTURE, tensors)
    merged = GgufFile.open(path)
    work = delta_kept(request, merged)
    try:
        while True:
            next(work)
    except StopIteration as end:
        return {one.module: (one.kept, one.error) for one in end.value}
    finally:
        merged.close()


def test_the_share_and_the_error_are_told_by_module(request_: ExportRequest, tmp_path: Path) -> None:
    """An output that the base ties to its embedding is compared with that."""
    shares = {"blk.0.attn_q.weight": 1.0, "blk.0.attn_v.weight": 0.25, "output.weight": 1.0}
    found = kept(request_, tmp_path / "merged.gguf", shares)
    assert found["blk.0.attn_q.weight"] == pytest.approx((1, 0), abs=1e-4)
    assert found["blk.0.attn_v.weight"] == pytest.approx((0.25, 0.75), abs=1e-4)
    assert found["output.weight"] == pytest.approx((1, 0), abs=1e-4)


def test_noise_is_an_error_and_takes_nothing_away(request_: ExportRequest, tmp_path: Path) -> None:
    found = kept(request_, tmp_path / "merged.gguf", {"blk.0.attn_q.weight": 1.0}, noise=0.5)
    assert found == {"blk.0.attn_q.weight": pytest.approx((1, 0.5), abs=1e-3)}
