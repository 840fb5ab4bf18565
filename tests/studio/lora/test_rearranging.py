"""Adapters made of adapters: the deltas add up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.errors import MismatchError
from studio.lora.adapter import Adapter
from studio.lora.rearranging import difference, negated, scaled, split_by_layer

SHAPES = {
    "token_embd.weight": (30, 16),
    "blk.0.attn_q.weight": (16, 16),
    "blk.1.attn_q.weight": (16, 16),
    "blk.1.ffn_up.weight": (24, 16),
}


def response(adapter: Adapter, module: str) -> Any:
    inputs = np.random.default_rng(1).standard_normal((5, SHAPES[module][1]), np.float32)
    found = adapter.delta(module, inputs)
    return np.zeros((5, SHAPES[module][0])) if found is None else found.astype(np.float64)


@pytest.mark.parametrize("factor", [2.5, -0.25])
def test_scaled_and_negated(make_adapter: Any, factor: float) -> None:
    adapter = make_adapter("one", SHAPES)
    for module in SHAPES:
        expected = factor * response(adapter, module)
        assert np.linalg.norm(response(scaled(adapter, factor), module) - expected) < 1e-6 * np.linalg.norm(
            expected
        )
        assert not (response(negated(adapter), module) + response(adapter, module)).any()


def test_the_difference_leads_from_one_to_the_other(make_adapter: Any) -> None:
    one, other = make_adapter("one", SHAPES, rank=3), make_adapter("other", dict(list(SHAPES.items())[1:3]))
    step = difference(one, other)
    for module in SHAPES:
        expected = response(one, module)
        found = response(other, module) + response(step, module)
        assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)
    assert set(difference(other, one).modules) == set(SHAPES)
    with pytest.raises(MismatchError, match=r"blk\.0\.attn_q\.weight: .* different shapes"):
        difference(one, make_adapter("third", {"blk.0.attn_q.weight": (8, 16)}))


def test_the_layers_are_the_whole(make_adapter: Any) -> None:
    adapter = make_adapter("one", SHAPES)
    layers = split_by_layer(adapter)
    assert {layer: len(own.modules) for layer, own in layers.items()} == {None: 1, 0: 1, 1: 2}
    found = {module: pair for own in layers.values() for module, pair in own.factors.items()}
    assert found == dict(adapter.factors)
