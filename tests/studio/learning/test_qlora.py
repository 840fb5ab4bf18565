"""QLoRATrainer on layers that follow one another."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest

from studio.contracts import FloatArray
from studio.errors import EngineError, MismatchError
from studio.learning.qlora import QLoRATrainer
from studio.lora.injection import adapter_of
from studio.lora.layers import FrozenLinear, Layer, LinearInfo, Model
from studio.lora.linear import LoraLinear
from studio.lora.nf4_linear import Nf4Linear
from studio.lora.parameter import Parameter


class Tanh:
    """A layer of another kind than linear."""

    op_type = "Tanh"
    attributes: Mapping[str, float] = MappingProxyType({})
    parameters: Mapping[str, Parameter] = MappingProxyType({})
    total_params = 0
    output_shape = (64,)
    name = "tanh"

    def forward_batch(self, inputs: FloatArray) -> FloatArray:
        outputs: FloatArray = np.tanh(inputs)
        return outputs

    def backward(self, gradients: FloatArray, inputs: FloatArray) -> FloatArray:
        passed: FloatArray = gradients * (1 - np.square(np.tanh(inputs)))
        return passed


class Chain:
    """A `Model` of two linear layers with a tanh between them."""

    def __init__(self) -> None:
        random = np.random.default_rng(1)
        self.weights = {
            "up": random.standard_normal((64, 8), dtype=np.float32) / np.float32(3),
            "down": random.standard_normal((3, 64), dtype=np.float32) / np.float32(8),
        }
        self._layers: dict[str, Layer] = {
            "up": FrozenLinear("up", LinearInfo(8, 64), lambda: self.weights["up"]),
            "tanh": Tanh(),
            "down": FrozenLinear("down", LinearInfo(64, 3), lambda: self.weights["down"]),
        }

    @property
    def layers(self) -> Mapping[str, Layer]:
        return self._layers

    def replace_layer(self, name: str, replacement: Layer) -> None:
        self._layers[name] = replacement


class Descent:
    """An `OptimiserRun` that goes straight down, and keeps what it saw."""

    def __init__(self) -> None:
        self.seen: dict[str, FloatArray] = {}

    def update(self, name: str, value: FloatArray, gradient: FloatArray, rate: float) -> FloatArray:
        self.seen[name] = gradient.copy()
        return value - np.float32(rate) * gradient

    def state(self) -> Mapping[str, FloatArray]:
        return {}

    def restore(self, state: Mapping[str, FloatArray]) -> None:
        pass


@pytest.fixture
def model() -> Chain:
    return Chain()


def regression(seed: int = 2) -> tuple[FloatArray, FloatArray]:
    """Inputs, and what a linear function makes of them."""
    random = np.random.default_rng(seed)
    inputs = random.standard_normal((32, 8), dtype=np.float32)
    return inputs, inputs @ random.standard_normal((8, 3), dtype=np.float32)


def exact_loss(model: Model, values: Mapping[str, Any], inputs: FloatArray, target: FloatArray) -> float:
    """The mean squared error in float64, with values for A and B."""
    x = inputs.astype(np.float64)
    for name, layer in model.layers.items():
        if isinstance(layer, LoraLinear):
            a, b = values[f"{name}/lora_a"], values[f"{name}/lora_b"]
            x = x @ (layer.weight.astype(np.float64) + layer.scaling * b.astype(np.float64) @ a).T
        else:
            x = np.tanh(x)
    return float(np.mean(np.square(x - target)))


def test_the_weights_are_nf4_and_lora_is_injected(model: Chain) -> None:
    trainer = QLoRATrainer(model, 2, 4, ["up"], Descent(), seed=0)
    assert (trainer.rank, trainer.alpha) == (2, 4.0)
    assert isinstance(model.layers["up"], LoraLinear) and isinstance(model.layers["down"], Nf4Linear)
    assert {name: parameter.value.shape for name, parameter in trainer.trainable_params.items()} == {
        "up/lora_a": (2, 8),
        "up/lora_b": (64, 2),
    }
    assert trainer.total_params == 64 * 8 + 3 * 64 + 2 * (8 + 64)


def test_its_gradients_are_those_of_finite_differences(model: Chain) -> None:
    optimiser = Descent()
    trainer = QLoRATrainer(model, 2, 4, ["up", "down"], optimiser, rate=0.1, seed=0)
    inputs, target = regression()
    trainer.step(inputs, target)  # so that B is not zero
    values = {
        name: parameter.value.astype(np.float64) for name, parameter in trainer.trainable_params.items()
    }
    expected = exact_loss(model, values, inputs, target)
    assert trainer.step(inputs, target) == pytest.approx(expected, rel=1e-6)
    for name, found in optimiser.seen.items():
        differences = np.empty(found.shape)
        for place in np.ndindex(found.shape):
            step = np.zeros(found.shape)
            step[place] = 1e-5
            ahead, back = (
                exact_loss(model, values | {name: values[name] + sign * step}, inputs, target)
                for sign in (1, -1)
            )
            differences[place] = (ahead - back) / 2e-5
        assert np.linalg.norm(found - differences) < 1e-5 * np.linalg.norm(differences), name


def test_a_regression_is_learnt_by_a_and_b_alone(model: Chain) -> None:
    trainer = QLoRATrainer(model, 4, 8, ["up", "down"], Descent(), rate=0.05, seed=0)
    inputs, target = regression()
    frozen = {name: layer.weight for name, layer in model.layers.items() if isinstance(layer, LoraLinear)}
    losses = [trainer.step(inputs, target) for _ in range(300)]
    assert losses[-1] < 0.1 * losses[0]
    for name, weight in frozen.items():
        layer = model.layers[name]
        assert isinstance(layer, LoraLinear)
        np.testing.assert_array_equal(layer.weight, weight)
    assert adapter_of(model).modules == ("up", "down")


def test_what_does_not_fit_is_refused_and_nothing_changes(model: Chain) -> None:
    trainer = QLoRATrainer(model, 2, 4, ["up"], Descent(), rate=0.1, seed=0)
    inputs, target = regression()
    before = {name: parameter.value for name, parameter in trainer.trainable_params.items()}
    with pytest.raises(MismatchError, match=r"target must be \(32, 3\), not \(32, 2\)"):
        trainer.step(inputs, target[:, :2])
    with pytest.raises(MismatchError, match="up: it does not take"):
        trainer.step(inputs[:, :7], target)
    with pytest.raises(EngineError, match="not a finite number"):
        trainer.step(inputs, np.full_like(target, np.inf))
    assert all(parameter.value is before[name] for name, parameter in trainer.trainable_params.items())


def test_a_layer_that_gradients_do_not_pass_through_is_named(model: Chain) -> None:
    class OneWay(Tanh):
        backward = None  # type: ignore[assignment]

    model.replace_layer("tanh", OneWay())
    with pytest.raises(MismatchError, match="tanh: gradients do not pass"):
        QLoRATrainer(model, 2, 4, ["up"], Descent())
    assert isinstance(model.layers["up"], FrozenLinear) and not isinstance(model.layers["up"], Nf4Linear)
