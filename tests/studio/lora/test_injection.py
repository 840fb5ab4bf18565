"""LoRA put into a model's layers by name, taken out, and put back."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from studio.contracts import FloatArray
from studio.errors import MismatchError, StudioError
from studio.formats.gguf_file import GgufFile
from studio.lora.adapter import Adapter
from studio.lora.injection import (
    adapter_of,
    inject_lora,
    restore_adapter,
    total_param_count,
    trainable_param_count,
)
from studio.lora.layers import BaseLayers, FrozenLinear, Layer, LinearInfo, LinearLayer, Model
from studio.lora.linear import LoraLinear

SIZES = {"layers.0.q_proj": (6, 4), "layers.0.v_proj": (6, 4), "layers.1.q_proj": (6, 6), "head": (3, 6)}


class Stacked:
    """A model of one's own: the layers one after the other."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self.layers: dict[str, Layer] = {}
        for name, (out, inputs) in SIZES.items():
            weight = random.standard_normal((out, inputs), dtype=np.float32)
            self.layers[name] = FrozenLinear(name, LinearInfo(inputs, out), lambda weight=weight: weight)  # type: ignore[misc]

    def replace_layer(self, name: str, replacement: Layer) -> None:
        if name not in self.layers:
            raise MismatchError("no such layer", where=name)
        self.layers[name] = replacement


INPUTS = np.random.default_rng(2).standard_normal((5, 4), dtype=np.float32)


def lora_layers(model: Model) -> dict[str, LoraLinear]:
    return {name: layer for name, layer in model.layers.items() if isinstance(layer, LoraLinear)}


def train(model: Model) -> None:
    """Give every B some numbers, as training would."""
    random = np.random.default_rng(3)
    for layer in lora_layers(model).values():
        layer.lora_b = random.standard_normal((layer.out_features, layer.rank), dtype=np.float32)


@pytest.fixture
def model() -> Stacked:
    return Stacked()


def test_the_protocols_are_satisfied(model: Stacked) -> None:
    checked: Model = model
    wrapped: LinearLayer = LoraLinear(np.ones((2, 3), np.float32), 1, 1.0)
    assert isinstance(checked, Model)
    assert isinstance(wrapped, LinearLayer)
    assert all(isinstance(layer, LinearLayer) for layer in model.layers.values())


def test_targets_are_found_by_the_ends_of_their_names(model: Stacked) -> None:
    assert inject_lora(model, 2, 8.0, ["q_proj"]) == ("layers.0.q_proj", "layers.1.q_proj")
    assert inject_lora(model, 2, 8.0, ["head"]) == ("head",)
    assert list(lora_layers(model)) == ["layers.0.q_proj", "layers.1.q_proj", "head"]


def test_a_wrapped_layer_tells_what_it_is(model: Stacked) -> None:
    inject_lora(model, 2, 8.0, ["layers.0.q_proj"])
    layer = lora_layers(model)["layers.0.q_proj"]
    assert (layer.name, layer.op_type, layer.output_shape) == ("layers.0.q_proj", "LoraLinear", (6,))
    assert layer.attributes == {"rank": 2, "alpha": 8.0, "scaling": 4.0}
    assert layer.info == LinearInfo(4, 6)
    assert {name: parameter.value.shape for name, parameter in layer.parameters.items()} == {
        "lora_a": (2, 4),
        "lora_b": (6, 2),
    }
    layer.name = "renamed"
    assert "renamed" in repr(layer)


def test_injecting_changes_no_output_and_freezes_the_weights(model: Stacked) -> None:
    before = model.layers["layers.0.q_proj"].forward_batch(INPUTS)
    total = total_param_count(model)
    assert (total, trainable_param_count(model)) == (6 * 4 * 2 + 36 + 18, 0)
    inject_lora(model, 2, 8.0, ["q_proj"], seed=0)
    np.testing.assert_array_equal(model.layers["layers.0.q_proj"].forward_batch(INPUTS), before)
    trainable = 2 * (4 + 6) + 2 * (6 + 6)
    assert trainable_param_count(model) == trainable
    assert total_param_count(model) == total + trainable


def test_a_seed_makes_the_same_start_and_layers_differ(model: Stacked) -> None:
    other = Stacked()
    for one in (model, other):
        inject_lora(one, 2, 8.0, ["q_proj", "v_proj"], seed=5, start="normal")
    first, second = lora_layers(model), lora_layers(other)
    for name, layer in first.items():
        np.testing.assert_array_equal(layer.lora_a, second[name].lora_a)
    assert not np.array_equal(first["layers.0.q_proj"].lora_a, first["layers.0.v_proj"].lora_a)


@pytest.mark.parametrize(
    ("targets", "says"), [(["k_proj"], "called k_proj"), ([], "no targets"), (["proj"], "called proj")]
)
def test_a_target_that_names_nothing_is_refused_and_nothing_is_wrapped(
    model: Stacked, targets: list[str], says: str
) -> None:
    with pytest.raises(MismatchError, match=says):
        inject_lora(model, 2, 8.0, [*targets, *(["q_proj"] if targets else [])])
    assert lora_layers(model) == {}


def test_an_adapter_goes_out_and_into_another_model_of_another_rank(model: Stacked) -> None:
    inject_lora(model, 2, 8.0, ["q_proj"], seed=0)
    train(model)
    adapter = adapter_of(model, "mine")
    assert adapter.trainable and adapter.layer_names == ("layers.0.q_proj", "layers.1.q_proj")
    other = Stacked()
    inject_lora(other, 3, 1.0, ["q_proj", "v_proj"], seed=9)
    restore_adapter(other, adapter)
    for name in adapter.modules:
        inputs = INPUTS if name.startswith("layers.0") else np.tile(INPUTS, 2)[:, :6]
        np.testing.assert_array_equal(
            other.layers[name].forward_batch(inputs), model.layers[name].forward_batch(inputs)
        )


def test_restoring_is_all_or_nothing(model: Stacked, make_adapter: Callable[..., Adapter]) -> None:
    inject_lora(model, 2, 8.0, ["q_proj"], seed=0)
    before: Mapping[str, FloatArray] = {name: layer.lora_a for name, layer in lora_layers(model).items()}
    for shapes, says in (
        ({"layers.0.q_proj": (6, 4), "layers.0.v_proj": (6, 4)}, "no LoRA in layers.0.v_proj"),
        ({"layers.0.q_proj": (6, 4), "layers.1.q_proj": (6, 5)}, r"layers.1.q_proj: .*\(6, 5\)"),
        ({}, "empty"),
    ):
        with pytest.raises(MismatchError, match=says):
            restore_adapter(model, make_adapter("a", shapes))
    lora_layers(model)["layers.1.q_proj"].merge()
    with pytest.raises(StudioError, match="unmerge"):
        restore_adapter(model, make_adapter("a", {"layers.0.q_proj": (6, 4), "layers.1.q_proj": (6, 6)}))
    for name, layer in lora_layers(model).items():
        assert layer.lora_a is before[name]


def test_a_model_without_lora_has_no_adapter(model: Stacked) -> None:
    with pytest.raises(MismatchError, match="inject_lora first"):
        adapter_of(model)


def test_the_layers_of_a_base_are_its_linear_weights(smollm2: GgufFile) -> None:
    model = BaseLayers(smollm2)
    assert len(model.layers) == 210
    layer = model.layers["blk.3.attn_k.weight"]
    assert (layer.op_type, layer.output_shape, layer.total_params) == ("Linear", (192,), 192 * 576)
    everything = sum(int(np.prod(info.shape)) for info in smollm2.tensors.values())
    assert total_param_count(model) + model.other_params == everything
    assert len(inject_lora(model, 4, 8.0, ["attn_k"], seed=0)) == 30
    inputs = np.random.default_rng(0).standard_normal((2, 576), dtype=np.float32)
    expected = inputs @ smollm2.dense("blk.3.attn_k.weight").T
    np.testing.assert_array_equal(model.layers["blk.3.attn_k.weight"].forward_batch(inputs), expected)
    assert adapter_of(model).architecture == "llama"
    with pytest.raises(MismatchError, match="no such layer"):
        model.replace_layer("blk.99.attn_k.weight", layer)
