"""Models as named layers that can be replaced: what LoRA is put into by hand."""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from studio.engine.model import EMBEDDING
from studio.errors import MismatchError
from studio.lora.report import adaptable_modules

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from studio.contracts import BaseModel, FloatArray
    from studio.lora.parameter import Parameter


@runtime_checkable
class Layer(Protocol):
    """One named layer of a `Model`."""

    @property
    def name(self) -> str:
        """The name that it has in its model."""

    @property
    def op_type(self) -> str:
        """What it computes, such as ``Linear``."""

    @property
    def attributes(self) -> Mapping[str, float]:
        """What else defines it, such as its rank."""

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of its output for one input."""

    @property
    def parameters(self) -> Mapping[str, Parameter]:
        """What training may change, by name."""

    @property
    def total_params(self) -> int:
        """How many numbers it has, the frozen ones included."""

    def forward_batch(self, inputs: FloatArray) -> FloatArray:
        """Map inputs ``[T, in]`` to outputs ``[T, out]``."""


@runtime_checkable
class Model(Protocol):
    """A model that shows its layers and lets them be replaced."""

    @property
    def layers(self) -> Mapping[str, Layer]:
        """All layers by name."""

    def replace_layer(self, name: str, replacement: Layer) -> None:
        """Put another layer in a layer's place. Raises `MismatchError` for a name that it lacks."""


@runtime_checkable
class DifferentiableLayer(Layer, Protocol):
    """A layer that gradients pass through."""

    def backward(self, gradients: FloatArray, inputs: FloatArray) -> FloatArray:
        """Turn gradients of the outputs ``[T, out]`` for inputs ``[T, in]`` into those of the inputs.

        Those of its parameters are added to their storage.
        """


@dataclass(frozen=True)
class LinearInfo:
    """The dimensions of a linear layer, as LoRA needs them."""

    in_features: int
    out_features: int


@runtime_checkable
class LinearLayer(Layer, Protocol):
    """A layer that LoRA can wrap: y = W x."""

    @property
    def info(self) -> LinearInfo:
        """Its dimensions."""

    @property
    def weight(self) -> FloatArray:
        """The weight W, ``(out, in)``."""


class FrozenLinear:
    """A linear layer y = W x that is not trained; its weight is read when it is needed.

    Parameters
    ----------
    name
        The name that it has in its model.
    info
        Its dimensions.
    load
        Returns the weight W, ``(out, in)``.
    """

    op_type = "Linear"
    attributes: Mapping[str, float] = MappingProxyType({})
    parameters: Mapping[str, Parameter] = MappingProxyType({})

    def __init__(self, name: str, info: LinearInfo, load: Callable[[], FloatArray]) -> None:
        self.name = name
        self.info = info
        self._load = load

    @property
    def weight(self) -> FloatArray:
        """The weight W, ``(out, in)``."""
        return self._load()

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of an output, ``(out,)``."""
        return (self.info.out_features,)

    @property
    def total_params(self) -> int:
        """The size of the weight."""
        return self.info.in_features * self.info.out_features

    def forward_batch(self, inputs: FloatArray) -> FloatArray:
        """Map inputs ``[T, in]`` to outputs ``[T, out]``."""
        outputs: FloatArray = np.asarray(inputs, dtype=np.float32) @ self.weight.T  # [T, in] @ [in, out]
        return outputs

    def backward(self, gradients: FloatArray, inputs: FloatArray) -> FloatArray:
        """Turn gradients of the outputs ``[T, out]`` into those of the inputs ``[T, in]``."""
        passed: FloatArray = np.asarray(gradients, dtype=np.float32) @ self.weight  # [T, out] @ [out, in]
        return passed


class BaseLayers:
    """The linear weights of a base as a `Model`: its blocks' and its output's, under their GGUF names."""

    def __init__(self, base: BaseModel) -> None:
        self.architecture = base.architecture
        shapes = {module: base.tensors[module].shape for module in adaptable_modules(base)}
        self._layers: dict[str, Layer] = {
            module: FrozenLinear(module, LinearInfo(shape[1], shape[0]), _loader(base, module))
            for module, shape in shapes.items()
            if len(shape) == 2 and module != EMBEDDING
        }
        linear = sum(layer.total_params for layer in self._layers.values())
        self.other_params = sum(math.prod(info.shape) for info in base.tensors.values()) - linear
        """How many numbers of the base are in no layer here: embeddings, experts, norms."""

    @property
    def layers(self) -> Mapping[str, Layer]:
        """All layers by name."""
        return MappingProxyType(self._layers)

    def replace_layer(self, name: str, replacement: Layer) -> None:
        """Put another layer in a layer's place. Raises `MismatchError` for a name that it lacks."""
        if name not in self._layers:
            raise MismatchError("the model has no such layer", where=name, remedy="Look at its layers")
        self._layers[name] = replacement


def _loader(base: BaseModel, module: str) -> Callable[[], FloatArray]:
    return lambda: base.dense(module)
