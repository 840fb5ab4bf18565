"""The adapter in training: its factors follow their gradients, and each step makes another version of it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import EngineError
from studio.learning.clipping import clipping_factor, global_norm

if TYPE_CHECKING:
    from studio.contracts import FloatArray, Gradients, OptimiserRun
    from studio.lora.adapter import Adapter


class Parameters:
    """The factors of one adapter and how they are updated.

    Parameters
    ----------
    adapter
        As it begins.
    optimiser
        What turns gradients into steps.
    clipping
        The highest norm of all gradients together; 0 for any.
    b_ratio
        By how much B's rate is higher than A's: LoRA+, Hayou et al. 2024,
        https://arxiv.org/abs/2402.12354, section 4.
    """

    def __init__(
        self, adapter: Adapter, optimiser: OptimiserRun, *, clipping: float = 0.0, b_ratio: float = 1.0
    ) -> None:
        self.adapter = adapter
        self.optimiser = optimiser
        self._clipping = clipping
        self._b_ratio = b_ratio

    def follow(self, gradients: Gradients, rate: float) -> float:
        """Take a step down the gradient of the mean loss; return its norm before clipping.

        `adapter` is another one afterwards, and the one before stays as it was.

        Raises
        ------
        EngineError
            A gradient is not finite. Nothing has changed.
        """
        by_token = 1 / gradients.loss.weight
        norm = by_token * global_norm(
            factor for pair in gradients.factors.values() for factor in (pair.a, pair.b)
        )
        if not np.isfinite(norm):
            raise EngineError("the gradient is not a finite number", remedy="Lower the learning rate")
        factor = np.float32(by_token * clipping_factor(norm, self._clipping))
        factors = dict(self.adapter.factors)
        for module, gradient in gradients.factors.items():
            pair = factors[module]
            factors[module] = replace(
                pair,
                a=self._next(f"{module}.a", pair.a, factor * gradient.a, rate),
                b=self._next(f"{module}.b", pair.b, factor * gradient.b, rate * self._b_ratio),
            )
        self.adapter = self.adapter.with_factors(factors)
        return norm

    def _next(self, name: str, value: FloatArray, gradient: FloatArray, rate: float) -> FloatArray:
        return self.optimiser.update(name, value, gradient, rate)


def added(first: Gradients | None, second: Gradients) -> Gradients:
    """Return the gradients of two batches together."""
    if first is None:
        return second
    factors = {
        module: replace(pair, a=first.factors[module].a + pair.a, b=first.factors[module].b + pair.b)
        for module, pair in second.factors.items()
    }
    return replace(second, loss=first.loss + second.loss, factors=factors)
