"""DoRA against the formula of its paper in float64: live, merged, measured, on a base and on a stack."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.contracts import (
    BlendChannel,
    BlendState,
    DeltaAdapter,
    DeltaPart,
    ExportRequest,
    Gains,
    ScaledDelta,
)
from studio.errors import FormatError, MismatchError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.analysis import BlendNorms
from studio.lora.combining import combined_delta, dense_delta, module_parts
from studio.lora.dora import DoraAdapter
from studio.lora.report import bind, describe
from studio.lora.stack import LoraStack

Q, V = "blk.3.attn_q.weight", "blk.3.attn_v.weight"
SHAPES = {Q: (576, 576), V: (192, 576)}

Float64 = np.ndarray[Any, np.dtype[np.float64]]
MakeAdapter = Callable[..., Adapter]


def distance(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def by_the_paper(weight: Any, factors: LoraFactors, magnitude: Any, scale: float) -> Float64:
    """W' - W with W' = m (W + s c B A) / ||W + s c B A||, row by row."""
    weight = np.asarray(weight, np.float64)
    changed = weight + scale * factors.scaling * factors.b.astype(np.float64) @ factors.a
    norms = np.linalg.norm(changed, axis=1, keepdims=True)
    return np.asarray(np.asarray(magnitude, np.float64)[:, None] * changed / norms - weight)


@pytest.fixture
def dora(make_adapter: MakeAdapter, smollm2: GgufFile) -> DoraAdapter:
    """Factors of random numbers, and magnitudes that trained a little away from the rows' own norms."""
    rng = np.random.default_rng(5)
    magnitudes = {
        name: np.linalg.norm(smollm2.dense(name), axis=1) * rng.uniform(0.8, 1.2, shape[0]).astype(np.float32)
        for name, shape in SHAPES.items()
    }
    return DoraAdapter(make_adapter("dora", SHAPES, rank=4, alpha=0.2), magnitudes)


@pytest.mark.parametrize("scale", [1.0, 0.3, -2.0])
def test_live_merged_and_norm_follow_the_paper(dora: DoraAdapter, smollm2: GgufFile, scale: float) -> None:
    bound, _ = bind(dora, smollm2)
    assert isinstance(bound, ScaledDelta)
    inputs = np.random.default_rng(1).standard_normal((5, 576), np.float32)
    for module in SHAPES:
        weight = smollm2.dense(module)
        wanted = by_the_paper(weight, dora.low_rank.factors[module], dora.magnitudes[module], scale)
        assert distance(bound.dense_delta_at(module, scale), wanted) < 1e-6
        assert distance(bound.delta_at(module, inputs, scale), inputs @ wanted.T) < 1e-5
        assert distance(bound.delta_at(module, inputs, scale, inputs @ weight.T), inputs @ wanted.T) < 1e-5
        assert bound.norm_at(module, scale) == pytest.approx(np.linalg.norm(wanted), rel=1e-6)


def test_the_delta_is_not_proportional_to_its_scale(dora: DoraAdapter, smollm2: GgufFile) -> None:
    bound, _ = bind(dora, smollm2)
    one, two = (bound.dense_delta_at(V, scale) for scale in (1.0, 2.0))
    assert one is not None
    assert distance(two, 2 * one) > 0.1


def test_a_stack_applies_it_at_its_scale_beside_others(
    dora: DoraAdapter, make_adapter: MakeAdapter, smollm2: GgufFile
) -> None:
    bound, _ = bind(dora, smollm2)
    plain = make_adapter("plain", {V: SHAPES[V]})
    stack = LoraStack()
    stack.set_master(0.5)
    stack.push(bound, 0.8)
    stack.push(plain, 0.6)
    assert stack.entries == ((bound, 0.8), (plain, 0.6))
    inputs = np.random.default_rng(1).standard_normal((5, 576), np.float32)
    wanted = by_the_paper(smollm2.dense(V), dora.low_rank.factors[V], dora.magnitudes[V], 0.4)
    wanted += 0.3 * plain.factors[V].scaling * plain.factors[V].b.astype(np.float64) @ plain.factors[V].a
    assert distance(stack.apply(V, inputs, 192), inputs @ wanted.T) < 1e-5


def test_a_gain_scales_within_the_formula_and_0_silences(dora: DoraAdapter, smollm2: GgufFile) -> None:
    bound, _ = bind(dora, smollm2)
    stack = LoraStack()
    stack.push(bound, 0.8, gains=Gains.of({V: 0.5, Q: 0}))
    inputs = np.random.default_rng(1).standard_normal((5, 576), np.float32)
    wanted = by_the_paper(smollm2.dense(V), dora.low_rank.factors[V], dora.magnitudes[V], 0.4)
    assert distance(stack.apply(V, inputs, 192), inputs @ wanted.T) < 1e-5
    assert not stack.apply(Q, inputs, 576).any()


def test_a_merge_takes_it_whole_and_a_method_as_factors(
    dora: DoraAdapter, make_adapter: MakeAdapter, smollm2: GgufFile
) -> None:
    bound, _ = bind(dora, smollm2)
    plain = make_adapter("plain", {V: SHAPES[V]})
    state = BlendState((BlendChannel("d", bound.version, 0.7), BlendChannel("p", plain.version, 1.0)))
    adapters: dict[str, DeltaAdapter] = {"d": bound, "p": plain}
    wanted = by_the_paper(smollm2.dense(V), dora.low_rank.factors[V], dora.magnitudes[V], 0.7)
    plain_delta = plain.factors[V].scaling * plain.factors[V].b.astype(np.float64) @ plain.factors[V].a
    found = combined_delta(ExportRequest(smollm2, adapters, state), V)
    assert isinstance(found, np.ndarray)
    assert distance(found, wanted + plain_delta) < 1e-6
    assert isinstance(
        combined_delta(ExportRequest(smollm2, {"p": plain}, BlendState(state.channels[1:])), V), DeltaPart
    )
    first, second = module_parts(V, adapters, state)
    assert distance(dense_delta(first), wanted) < 1e-6
    assert second.a.shape[0] == 2


def test_the_report_shows_it_as_such(dora: DoraAdapter, smollm2: GgufFile) -> None:
    bound, report = bind(dora, smollm2)
    assert report.format.endswith("(DoRA)")
    assert (report.matched, report.ranks) == (2, (4,))
    assert report.norms[V] == bound.norm_at(V, 1.0)
    assert report.findings[0].topic == "dora"
    norms = BlendNorms.of({"d": bound}, [V])
    assert np.isnan(norms.own_norms()).all()  # a quadratic form in the scales cannot have it


def test_without_a_base_it_is_described_and_does_not_act(dora: DoraAdapter) -> None:
    report = describe(dora)
    assert report.norms == {}
    with pytest.raises(MismatchError, match="weights of its base"):
        dora.delta(V, np.zeros((1, 576), np.float32))


def test_what_the_base_lacks_is_left_out_with_its_magnitude(
    make_adapter: MakeAdapter, smollm2: GgufFile
) -> None:
    shapes = {V: SHAPES[V], "blk.99.attn_v.weight": (192, 576)}
    dora = DoraAdapter(make_adapter("dora", shapes), {name: np.ones(192, np.float32) for name in shapes})
    bound, report = bind(dora, smollm2)
    assert bound.modules == (V,)
    assert tuple(bound.magnitudes) == (V,)
    assert report.unmatched == ("blk.99.attn_v.weight",)


def test_a_row_of_zeros_stays(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    plain = make_adapter("dora", {V: SHAPES[V]})
    factors = LoraFactors(plain.factors[V].a, np.zeros((192, 2), np.float32), 1.0)
    bound, _ = bind(DoraAdapter(Adapter("zero", {V: factors}), {V: np.zeros(192, np.float32)}), smollm2)
    assert distance(bound.dense_delta_at(V, 1.0), -smollm2.dense(V)) < 1e-6


@pytest.mark.parametrize(
    ("shape", "magnitude", "error", "message"),
    [
        ((192, 576), np.ones(191, np.float32), FormatError, "192 rows"),
        ((192, 576), np.full(192, np.nan, np.float32), FormatError, "NaN"),
        ((3, 192, 576), np.ones(192, np.float32), UnsupportedError, "experts"),
    ],
)
def test_magnitudes_that_make_no_sense_are_refused_by_module(
    make_adapter: MakeAdapter, shape: Any, magnitude: Any, error: type[FormatError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        DoraAdapter(make_adapter("dora", {V: shape}), {V: magnitude})
    assert caught.value.where == V


def test_a_magnitude_needs_its_factors_and_no_embedding(make_adapter: MakeAdapter) -> None:
    with pytest.raises(FormatError, match="no factors"):
        DoraAdapter(make_adapter("dora", {V: (192, 576)}), {Q: np.ones(576, np.float32)})
    with pytest.raises(UnsupportedError, match="embedding"):
        DoraAdapter(
            make_adapter("dora", {"token_embd.weight": (40, 8)}),
            {"token_embd.weight": np.ones(40, np.float32)},
        )
