"""Norms through Gram matrices equal the norms of dense deltas."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.contracts import BlendChannel, BlendState, FloatArray, Gains, Progress
from studio.formats.gguf_file import GgufFile
from studio.lora.adapter import Adapter
from studio.lora.analysis import BlendNorms, base_norms

Q, K = "blk.0.attn_q.weight", "blk.0.attn_k.weight"
EXPERTS = "blk.0.ffn_up_exps.weight"
SHAPES = {Q: (16, 12), K: (8, 12), EXPERTS: (3, 6, 12)}

MakeAdapter = Callable[..., Adapter]


def at(scales: dict[str, float]) -> BlendState:
    return BlendState(tuple(BlendChannel(key, 1, scale) for key, scale in scales.items()))


def dense(adapter: Adapter, module: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Form dW in float64, as the studio never does."""
    if module not in adapter.factors:
        return np.zeros(SHAPES[module])
    pair = adapter.factors[module]
    return pair.scaling * (pair.b.astype(np.float64) @ pair.a.astype(np.float64))


@settings(max_examples=40, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 6), min_size=1, max_size=4),
    scales=st.lists(st.floats(-3, 3), min_size=4, max_size=4),
    gains=st.lists(st.floats(-2, 2), min_size=4, max_size=4),
    has_k=st.lists(st.booleans(), min_size=4, max_size=4),
)
def test_norms_equal_those_of_dense_deltas(
    make_adapter: MakeAdapter,
    ranks: list[int],
    scales: list[float],
    gains: list[float],
    has_k: list[bool],
) -> None:
    adapters = {
        str(index): make_adapter(
            str(index), SHAPES if k else {Q: SHAPES[Q], EXPERTS: SHAPES[EXPERTS]}, rank=rank
        )
        for index, (rank, k) in enumerate(zip(ranks, has_k, strict=False))
    }
    blend = BlendState(
        tuple(
            BlendChannel(key, 1, scale, Gains.of({Q: gain, "blk.9.attn_q.weight": 7.0}))
            for key, scale, gain in zip(adapters, scales, gains, strict=False)
        )
    )
    norms = BlendNorms.of(adapters, list(SHAPES))
    own = [[np.linalg.norm(dense(adapter, module)) for adapter in adapters.values()] for module in SHAPES]
    whole = [
        np.linalg.norm(
            sum(channel.scale_of(module) * dense(adapters[channel.key], module) for channel in blend.channels)
        )
        for module in SHAPES
    ]
    np.testing.assert_allclose(norms.own_norms(), own, rtol=1e-6)
    np.testing.assert_allclose(norms.blend_norms(blend), whole, rtol=1e-6, atol=1e-6)


def test_an_adapter_against_itself_cancels_to_zero_and_not_to_nan(make_adapter: MakeAdapter) -> None:
    adapter = make_adapter("legal", SHAPES, rank=6)
    norms = BlendNorms.of({"one": adapter, "other": adapter}, list(SHAPES))
    np.testing.assert_allclose(norms.blend_norms(at({"one": 0.7, "other": -0.7})), 0, atol=1e-5)


def test_an_adapter_without_a_scale_is_silent(make_adapter: MakeAdapter) -> None:
    adapters = {"legal": make_adapter("legal", SHAPES), "pirate": make_adapter("pirate", SHAPES)}
    norms = BlendNorms.of(adapters, list(SHAPES))
    np.testing.assert_allclose(norms.blend_norms(at({"pirate": 2})), 2 * norms.own_norms()[:, 1])


class Opaque:
    """An adapter that does not show its factors."""

    name = "opaque"
    version = 1
    modules = (Q,)

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        return None


def test_a_norm_that_cannot_be_known_is_nan_and_only_while_it_sounds(make_adapter: MakeAdapter) -> None:
    norms = BlendNorms.of({"legal": make_adapter("legal", SHAPES), "opaque": Opaque()}, [Q, K])
    assert np.isnan(norms.own_norms()).tolist() == [[False, True], [False, False]]
    assert np.isnan(norms.blend_norms(at({"legal": 1, "opaque": 1}))).tolist() == [True, False]
    assert not np.isnan(norms.blend_norms(at({"legal": 1}))).any()


def test_norms_of_no_adapters_are_zero() -> None:
    assert BlendNorms.of({}, [Q, K]).blend_norms(at({})).tolist() == [0, 0]


def test_base_norms_come_step_by_step(smollm2: GgufFile) -> None:
    work = base_norms(smollm2, [Q, "blk.99.attn_q.weight"])
    assert next(work) == Progress(0, 2, Q)
    assert next(work) == Progress(1, 2, "blk.99.attn_q.weight")
    with pytest.raises(StopIteration) as end:
        next(work)
    norms = end.value.value
    assert norms[0] == pytest.approx(np.linalg.norm(smollm2.dense(Q).astype(np.float64)))
    assert np.isnan(norms[1])
