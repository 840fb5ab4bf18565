"""`QLoRATrainer`: LoRA trained on a model's layers, whose own weights are frozen in NF4."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import EngineError, MismatchError
from studio.lora.injection import inject_lora, total_param_count
from studio.lora.layers import DifferentiableLayer
from studio.lora.linear import LoraLinear
from studio.lora.nf4_linear import quantise_layers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts import FloatArray, OptimiserRun
    from studio.lora.initial import Start
    from studio.lora.layers import Model
    from studio.lora.parameter import Parameter


class QLoRATrainer:
    """Trains a model whose layers follow one another, each fed by the one before.

    The weights of its linear layers are turned into NF4, and stay so: they are dequantised on the way into
    each product. The layers that are named get LoRA, and only its A and B are trained (Dettmers et al. 2023,
    https://arxiv.org/abs/2305.14314, equation 5).

    Parameters
    ----------
    model
        Its layers are replaced.
    rank, alpha, targets, start, seed
        As of `inject_lora`.
    optimiser
        How A and B follow their gradients.
    rate
        The learning rate; it may be set between steps.

    Raises
    ------
    MismatchError
        A target names no linear layer, or gradients do not pass through a layer.
    """

    def __init__(
        self,
        model: Model,
        rank: int,
        alpha: float,
        targets: Sequence[str],
        optimiser: OptimiserRun,
        *,
        rate: float = 1e-3,
        start: Start = "kaiming",
        seed: int | None = None,
    ) -> None:
        for name, layer in model.layers.items():
            if not isinstance(layer, DifferentiableLayer):
                raise MismatchError("gradients do not pass through it", where=name, remedy="Give it backward")
        quantise_layers(model)
        inject_lora(model, rank, alpha, targets, start=start, seed=seed)
        self.rank = rank
        self.alpha = float(alpha)
        self.rate = rate
        self._model = model
        self._optimiser = optimiser

    @property
    def trainable_params(self) -> Mapping[str, Parameter]:
        """A and B of every layer with LoRA as they stand, under ``<layer>/lora_a`` and ``<layer>/lora_b``."""
        return {
            f"{name}/{half}": parameter
            for name, layer in self._lora_layers().items()
            for half, parameter in layer.parameters.items()
        }

    @property
    def total_params(self) -> int:
        """How many numbers the model has, the frozen ones included."""
        return total_param_count(self._model)

    def step(self, inputs: FloatArray, target: FloatArray) -> float:
        """Run the model, and let A and B follow the gradient of the mean squared error once.

        Parameters
        ----------
        inputs
            ``[T, in]`` of the first layer.
        target
            ``[T, out]`` of the last.

        Returns
        -------
        float
            The loss before the step.

        Raises
        ------
        MismatchError
            A layer does not take what the one before gives, or the target is of another shape.
        EngineError
            The loss is not finite; A and B stay as they are.
        """
        entered, outputs = self._run(np.asarray(inputs, dtype=np.float32))
        target = np.asarray(target, dtype=np.float32)
        if outputs.shape != target.shape:
            raise MismatchError(f"the target must be {outputs.shape}, not {target.shape}")
        missed = outputs - target
        loss = float(np.mean(np.square(missed, dtype=np.float64)))
        if not math.isfinite(loss):
            raise EngineError("the loss is not a finite number", remedy="Lower the learning rate")
        gradients: FloatArray = missed * np.float32(2 / missed.size)
        for layer, its_inputs in reversed(entered):
            gradients = layer.backward(gradients, its_inputs)
        for name, layer in self._lora_layers().items():
            a, b = (layer.parameters[half] for half in ("lora_a", "lora_b"))
            layer.lora_a = self._optimiser.update(f"{name}/lora_a", a.value, a.gradient, self.rate)
            layer.lora_b = self._optimiser.update(f"{name}/lora_b", b.value, b.gradient, self.rate)
        return loss

    def _run(self, values: FloatArray) -> tuple[list[tuple[DifferentiableLayer, FloatArray]], FloatArray]:
        """Return each layer with what entered it, and what came out of the last."""
        entered = []
        for name, layer in self._model.layers.items():
            assert isinstance(layer, DifferentiableLayer), "looked at when it was made"
            entered.append((layer, values))
            try:
                values = layer.forward_batch(values)
            except (MismatchError, ValueError) as error:
                raise MismatchError(
                    f"it does not take the {values.shape} that comes to it: {error}", where=name
                ) from error
        return entered, values

    def _lora_layers(self) -> dict[str, LoraLinear]:
        return {name: layer for name, layer in self._model.layers.items() if isinstance(layer, LoraLinear)}
