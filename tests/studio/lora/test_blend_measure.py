"""What is foretold of a blend agrees with what dense arithmetic and real files say."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import pytest

from studio.contracts import BlendChannel, BlendState, Combination, ExportRequest, TensorInfo
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.gguf_writer import encode
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.algebra import RankLimit, ties
from studio.lora.blend_measure import measure_blend, rounding_loss
from studio.lora.combining import combined_delta, dense_delta
from studio.lora.limiting import limited

if TYPE_CHECKING:
    from collections.abc import Generator

    from studio.contracts import BaseModel, DeltaPart
    from studio.lora.blend_measure import BlendMeasure

SHAPES = {"blk.0.attn_q.weight": (48, 64), "blk.1.attn_q.weight": (64, 64)}


class Ties:
    name = "ties"
    Options = object

    def combine(self, module: str, parts: Any, options: Any) -> Any:
        return ties(module, parts, density=0.5, majority="total", divide_by="count", lambda_=1.0)


@pytest.fixture
def request_() -> ExportRequest:
    """Two random adapters of the ranks 32 and 3, the second of one module."""
    random = np.random.default_rng(5)

    def factors(module: str, rank: int) -> LoraFactors:
        rows, columns = SHAPES[module]
        a = random.standard_normal((rank, columns), dtype=np.float32)
        return LoraFactors(a, random.standard_normal((rows, rank), dtype=np.float32), alpha=8.0)

    first, second = SHAPES
    adapters = {
        "one": Adapter("one", {module: factors(module, 32) for module in SHAPES}),
        "two": Adapter("two", {second: factors(second, 3)}),
    }
    tensors = {name: TensorInfo(name, shape, "F32", 0) for name, shape in SHAPES.items()}
    base = cast("BaseModel", SimpleNamespace(tensors=tensors, name="base", architecture="llama"))
    channels = (BlendChannel("one", 1, 0.5), BlendChannel("two", 1, -2.0))
    return ExportRequest(base, adapters, BlendState(channels))


def finish(work: Generator[Any, None, BlendMeasure]) -> BlendMeasure:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return cast("BlendMeasure", end.value)


def relative_error(request: ExportRequest, other: ExportRequest) -> float:
    """Return ||other - request|| / ||request|| over all modules, by dense arithmetic in float64."""
    off = whole = 0.0
    for module in SHAPES:
        wanted, found = combined_delta(request, module), combined_delta(other, module)
        assert wanted is not None and found is not None
        dense = dense_delta(wanted).astype(np.float64)
        whole += float((dense**2).sum())
        off += float(((dense_delta(found) - dense) ** 2).sum())
    return float(np.sqrt(off / whole))


@pytest.mark.parametrize("limit", [RankLimit(5), RankLimit(energy=0.9), RankLimit(7, 0.8)])
def test_the_error_of_a_cut_is_that_of_the_cut_adapter(request_: ExportRequest, limit: RankLimit) -> None:
    measure = finish(measure_blend(request_))
    assert measure.ranks == {"blk.0.attn_q.weight": 32, "blk.1.attn_q.weight": 35}
    cut = ExportRequest(
        request_.base, request_.adapters, request_.state, limited(request_.combination, limit)
    )
    assert measure.error(limit) == pytest.approx(relative_error(request_, cut), rel=1e-3)
    ranks = {module: cast("DeltaPart", combined_delta(cut, module)).a.shape[0] for module in SHAPES}
    assert measure.cut_ranks(limit) == ranks


def test_the_curve_falls_from_all_to_nothing(request_: ExportRequest) -> None:
    measure = finish(measure_blend(request_))
    assert measure.curve[0] == 1 and measure.curve[35] < 1e-5
    assert np.all(np.diff(measure.curve) <= 1e-12)
    assert measure.curve[5] == pytest.approx(measure.error(RankLimit(5)))


@pytest.mark.parametrize("kind", ["F16", "BF16", "Q8_0"])
def test_the_loss_of_rounding_is_that_of_rounded_factors(request_: ExportRequest, kind: Any) -> None:
    measure = finish(measure_blend(request_))
    part = cast("DeltaPart", combined_delta(request_, "blk.0.attn_q.weight"))
    largest = np.abs(part.b).max()
    rounded = []
    for values in (part.a, part.b / largest):  # both have rows of whole blocks
        data = encode(values, kind).view(np.uint8).reshape(len(values), -1)
        rounded.append(dequantise(data, GGML_TYPES_BY_NAME[kind].number).astype(np.float64))
    dense = part.scale * (rounded[1] * largest) @ rounded[0]
    square = float(((dense - dense_delta(part).astype(np.float64)) ** 2).sum())
    assert rounding_loss(part, kind) == pytest.approx(square, rel=1e-3)
    assert measure.error(RankLimit(), kind) == pytest.approx(measure.rounding[kind])
    assert 0 < measure.rounding["F16"] < measure.rounding["BF16"] < 0.01


def test_a_dense_delta_is_told_apart(request_: ExportRequest) -> None:
    combined = ExportRequest(request_.base, request_.adapters, request_.state, Combination(Ties(), None))
    measure = finish(measure_blend(combined))
    assert measure.dense == set(SHAPES)
    assert measure.ranks == {"blk.0.attn_q.weight": 48, "blk.1.attn_q.weight": 64}
    assert measure.cut_ranks(RankLimit(4)) == dict.fromkeys(SHAPES, 4)
