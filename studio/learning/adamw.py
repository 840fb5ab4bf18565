"""AdamW: steps by running means of the gradient and its square, and weights that decay beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import FloatArray


@dataclass(frozen=True)
class AdamWOptions:
    """How AdamW steps."""

    beta_1: float = field(
        default=0.9, metadata={"help": "How long gradients are remembered.", "range": (0.0, 0.999999)}
    )
    beta_2: float = field(
        default=0.999, metadata={"help": "How long their squares are.", "range": (0.0, 0.999999)}
    )
    epsilon: float = field(
        default=1e-8, metadata={"help": "Keeps small steps from being large.", "range": (1e-12, 1.0)}
    )
    weight_decay: float = field(
        default=0.0,
        metadata={
            "help": "Which share of itself a factor loses at each step, times the rate.",
            "range": (0.0, 10.0),
        },
    )


class AdamW:
    """Offers AdamW: Loshchilov and Hutter 2019, https://arxiv.org/abs/1711.05101, algorithm 2."""

    name = "adamw"
    Options = AdamWOptions

    def start(self, options: AdamWOptions) -> AdamWRun:
        """Begin a run."""
        return AdamWRun(options)


class AdamWRun:
    """The running means of every parameter."""

    def __init__(self, options: AdamWOptions) -> None:
        self._options = options
        self._means: dict[str, FloatArray] = {}
        self._squares: dict[str, FloatArray] = {}
        self._steps: dict[str, int] = {}

    def update(self, name: str, value: FloatArray, gradient: FloatArray, rate: float) -> FloatArray:
        """Return the next value of a parameter.

        The means begin at zero; dividing by 1 - beta^steps takes out what that does to them.
        """
        options = self._options
        if name not in self._steps:
            self._means[name], self._squares[name] = np.zeros_like(value), np.zeros_like(value)
        steps = self._steps[name] = self._steps.get(name, 0) + 1
        mean, square = self._means[name], self._squares[name]
        mean += np.float32(1 - options.beta_1) * (gradient - mean)
        square *= np.float32(options.beta_2)
        square += np.float32(1 - options.beta_2) * np.square(gradient)
        spread = np.sqrt(square)
        spread *= np.float32(1 / math.sqrt(1 - options.beta_2**steps))
        spread += np.float32(options.epsilon)
        step = mean / spread
        step *= np.float32(rate / (1 - options.beta_1**steps))
        following: FloatArray = value * np.float32(1 - rate * options.weight_decay)
        following -= step
        return following

    def state(self) -> Mapping[str, FloatArray]:
        """Return means, squares and counts of steps, each under its parameter's name."""
        return {
            **{f"mean/{name}": mean for name, mean in self._means.items()},
            **{f"square/{name}": square for name, square in self._squares.items()},
            **{f"steps/{name}": np.array([steps], np.float32) for name, steps in self._steps.items()},
        }

    def restore(self, state: Mapping[str, FloatArray]) -> None:
        """Go on from what `state` returned."""
        parts: dict[str, dict[str, FloatArray]] = {"mean": {}, "square": {}, "steps": {}}
        for key, array in state.items():
            part, _, name = key.partition("/")
            parts[part][name] = np.array(array, dtype=np.float32)
        self._means, self._squares = parts["mean"], parts["square"]
        self._steps = {name: int(count[0]) for name, count in parts["steps"].items()}
