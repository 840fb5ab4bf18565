"""LoraLinear, the layer to try LoRA with."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from studio.errors import MismatchError, StudioError
from studio.formats.nf4 import quantise_nf4
from studio.lora.adapter import LoraFactors
from studio.lora.linear import LoraLinear

WEIGHT = np.random.default_rng(1).standard_normal((6, 4), dtype=np.float32)
INPUTS = np.random.default_rng(2).standard_normal((3, 4), dtype=np.float32)


@pytest.fixture
def trained() -> LoraLinear:
    """A layer whose B is no longer zero."""
    layer = LoraLinear(WEIGHT, rank=2, alpha=4, seed=0)
    layer.lora_b = np.random.default_rng(3).standard_normal((6, 2), dtype=np.float32)
    return layer


def test_a_new_layer_gives_the_outputs_of_its_weight() -> None:
    layer = LoraLinear(WEIGHT, rank=2, alpha=4)
    np.testing.assert_array_equal(layer.forward_batch(INPUTS), INPUTS @ WEIGHT.T)
    assert not layer.lora_b.any()


def test_a_starts_kaiming_uniform() -> None:
    a = LoraLinear(np.zeros((2, 400), dtype=np.float32), rank=50, alpha=1, seed=0).lora_a
    bound = 1 / math.sqrt(400)
    assert np.abs(a).max() <= bound
    assert a.std() == pytest.approx(bound / math.sqrt(3), rel=0.02)  # of the uniform distribution


def test_forward_adds_the_scaled_delta(trained: LoraLinear) -> None:
    expected = INPUTS @ (WEIGHT + 2 * trained.lora_b @ trained.lora_a).T
    np.testing.assert_allclose(trained.forward_batch(INPUTS), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.forward(INPUTS[0]), expected[0], rtol=1e-5, atol=1e-5)
    assert trained.scaling == 2


def test_merging_changes_no_output_and_unmerging_restores_every_bit(trained: LoraLinear) -> None:
    before = trained.forward_batch(INPUTS)
    trained.merge()
    assert trained.is_merged
    np.testing.assert_allclose(trained.forward_batch(INPUTS), before, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(trained.weight, WEIGHT + 2 * trained.lora_b @ trained.lora_a, rtol=1e-5)
    trained.unmerge()
    np.testing.assert_array_equal(trained.weight, WEIGHT)
    assert not trained.is_merged


def test_merging_twice_merges_once(trained: LoraLinear) -> None:
    trained.merge()
    once = trained.weight
    trained.merge()
    assert trained.weight is once


@pytest.mark.parametrize("merged", [False, True])
def test_a_disabled_layer_gives_the_outputs_of_its_weight(trained: LoraLinear, merged: bool) -> None:
    if merged:
        trained.merge()
    trained.disable()
    assert not trained.is_enabled
    np.testing.assert_array_equal(trained.forward_batch(INPUTS), INPUTS @ WEIGHT.T)
    trained.enable()
    assert not np.array_equal(trained.forward_batch(INPUTS), INPUTS @ WEIGHT.T)


def test_it_counts_its_parameters(trained: LoraLinear) -> None:
    assert trained.trainable_params == 2 * (4 + 6)
    assert trained.total_params == 24 + 20
    assert trained.compression_ratio == pytest.approx(20 / 44)


def test_the_setters_check_shape_and_numbers(trained: LoraLinear) -> None:
    with pytest.raises(MismatchError, match=r"A must be \(2, 4\)"):
        trained.lora_a = np.zeros((4, 2), dtype=np.float32)
    with pytest.raises(MismatchError, match=r"B must be \(6, 2\)"):
        trained.lora_b = np.zeros((6, 3), dtype=np.float32)
    with pytest.raises(StudioError, match="NaN"):
        trained.lora_a = np.full((2, 4), np.nan, dtype=np.float32)


def test_factors_stand_still_while_merged(trained: LoraLinear) -> None:
    trained.merge()
    with pytest.raises(StudioError, match="unmerge"):
        trained.lora_b = np.zeros((6, 2), dtype=np.float32)


def test_a_clone_goes_its_own_way(trained: LoraLinear) -> None:
    clone = trained.clone()
    clone.lora_b = np.zeros((6, 2), dtype=np.float32)
    clone.merge()
    assert trained.lora_b.any()
    assert not trained.is_merged


def test_its_factors_make_the_same_delta(trained: LoraLinear) -> None:
    factors = trained.factors
    assert (factors.rank, factors.scaling, factors.shape) == (2, 2, (6, 4))


def test_inputs_of_another_length_are_refused(trained: LoraLinear) -> None:
    with pytest.raises(MismatchError, match=r"\(4\), not \(5,\)"):
        trained.forward(np.zeros(5, dtype=np.float32))
    with pytest.raises(MismatchError, match=r"\(T, 4\)"):
        trained.forward_batch(np.zeros(4, dtype=np.float32))


@pytest.mark.parametrize(
    ("shape", "rank", "alpha"), [((4,), 1, 1.0), ((0, 4), 1, 1.0), ((6, 4), 0, 1.0), ((6, 4), 1, math.nan)]
)
def test_a_layer_that_makes_no_sense_is_refused(shape: tuple[int, ...], rank: int, alpha: float) -> None:
    with pytest.raises(StudioError):
        LoraLinear(np.zeros(shape, dtype=np.float32), rank, alpha)


def test_a_may_start_normal() -> None:
    a = LoraLinear(np.zeros((2, 400), dtype=np.float32), rank=50, alpha=1, seed=0, start="normal").lora_a
    assert a.std() == pytest.approx(1, rel=0.02)


def test_factors_of_another_rank_can_be_taken_over_whole(trained: LoraLinear) -> None:
    other = LoraLinear(WEIGHT, rank=4, alpha=2, seed=1)
    other.factors = LoraFactors(trained.lora_a, trained.lora_b, 3.0, rank_stabilised=True)
    assert other.rank == 2
    assert other.scaling == pytest.approx(3 / math.sqrt(2))
    expected = INPUTS @ WEIGHT.T + other.scaling * INPUTS @ (trained.lora_b @ trained.lora_a).T
    np.testing.assert_allclose(other.forward_batch(INPUTS), expected, rtol=1e-5, atol=1e-5)
    with pytest.raises(MismatchError, match=r"\(4, 6\)"):
        other.factors = LoraFactors(trained.lora_b.T, trained.lora_a.T, 3.0)


def test_it_shows_what_it_is(trained: LoraLinear) -> None:
    trained.name = "q"
    assert repr(trained) == "LoraLinear('q', 4 -> 6, rank 2, alpha 4, enabled)"
    trained.merge()
    assert repr(trained).endswith("merged)")


def loss(a: Any, b: Any, inputs: Any, weight: Any, scaling: float) -> float:
    """A loss of a layer's outputs, in float64."""
    a, b, inputs, weight = (np.asarray(array, np.float64) for array in (a, b, inputs, weight))
    return float(np.sin(inputs @ (weight + scaling * b @ a).T).sum())


@pytest.mark.parametrize("which", ["a", "b", "inputs"])
def test_gradients_are_those_of_finite_differences(trained: LoraLinear, which: str) -> None:
    outputs = INPUTS.astype(np.float64) @ (WEIGHT + 2.0 * trained.lora_b @ trained.lora_a).T
    of_inputs = trained.backward(np.cos(outputs).astype(np.float32), INPUTS)
    found = {
        "a": trained.parameters["lora_a"].gradient,
        "b": trained.parameters["lora_b"].gradient,
        "inputs": of_inputs,
    }[which]
    at = {"a": trained.lora_a, "b": trained.lora_b, "inputs": INPUTS}
    expected = np.empty(found.shape)
    for place in np.ndindex(found.shape):
        step = np.zeros(found.shape)
        step[place] = 1e-5
        ahead, back = (
            loss(**(at | {which: at[which] + sign * step}), weight=WEIGHT, scaling=2.0) for sign in (1, -1)
        )
        expected[place] = (ahead - back) / 2e-5
    assert np.linalg.norm(found - expected) < 1e-6 * np.linalg.norm(expected)


def test_gradients_add_up_until_the_value_is_another(trained: LoraLinear) -> None:
    gradients = np.ones((3, 6), np.float32)
    trained.backward(gradients, INPUTS)
    once = trained.parameters["lora_b"].gradient.copy()
    trained.backward(gradients, INPUTS)
    np.testing.assert_allclose(trained.parameters["lora_b"].gradient, 2 * once, rtol=1e-6)
    clone = trained.clone()
    trained.lora_b = trained.lora_b + 1
    assert not trained.parameters["lora_b"].gradient.any()
    assert not clone.parameters["lora_b"].gradient.any()


def test_while_disabled_gradients_only_pass_through(trained: LoraLinear) -> None:
    trained.disable()
    gradients = np.ones((3, 6), np.float32)
    np.testing.assert_allclose(trained.backward(gradients, INPUTS), gradients @ WEIGHT, rtol=1e-6)
    assert not any(parameter.gradient.any() for parameter in trained.parameters.values())


def test_gradients_of_wrong_shapes_or_of_a_merged_layer_are_refused(trained: LoraLinear) -> None:
    with pytest.raises(MismatchError, match=r"gradients must be \(T, 6\), not \(2, 6\)"):
        trained.backward(np.zeros((2, 6), np.float32), INPUTS)
    with pytest.raises(MismatchError, match=r"inputs must be \(T, 4\)"):
        trained.backward(np.zeros((3, 6), np.float32), INPUTS[0])
    trained.merge()
    with pytest.raises(StudioError, match="merged"):
        trained.backward(np.zeros((3, 6), np.float32), INPUTS)


def test_a_weight_in_nf4_stays_in_nf4(trained: LoraLinear) -> None:
    tensor = quantise_nf4(WEIGHT)
    layer = LoraLinear(tensor, rank=2, alpha=4, seed=0)
    np.testing.assert_array_equal(layer.forward_batch(INPUTS), INPUTS @ tensor.dense().T)
    np.testing.assert_array_equal(layer.weight, tensor.dense())
    assert (layer.in_features, layer.out_features, layer.total_params) == (4, 6, 44)
    layer.lora_b = trained.lora_b
    before = layer.forward_batch(INPUTS)
    layer.merge()
    np.testing.assert_allclose(layer.forward_batch(INPUTS), before, rtol=1e-5, atol=1e-5)
    layer.unmerge()
    np.testing.assert_array_equal(layer.forward_batch(INPUTS), before)
    with pytest.raises(MismatchError, match="out, in"):
        LoraLinear(quantise_nf4(WEIGHT[0]), rank=1, alpha=1)
