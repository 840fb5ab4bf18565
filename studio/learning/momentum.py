"""Gradient descent with momentum: one array a parameter, half of what AdamW keeps."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import FloatArray


@dataclass(frozen=True)
class MomentumOptions:
    """How descent steps."""

    momentum: float = field(
        default=0.9, metadata={"help": "How much of a step goes on in the next.", "range": (0.0, 0.999999)}
    )
    weight_decay: float = field(
        default=0.0,
        metadata={"help": "Adds this times a factor to its gradient.", "range": (0.0, 10.0)},
    )


class Momentum:
    """Offers it: Sutskever et al. 2013, https://proceedings.mlr.press/v28/sutskever13.html, section 2.

    The rate multiplies the velocity, not the gradient that enters it, as in torch.
    """

    name = "sgd"
    Options = MomentumOptions

    def start(self, options: MomentumOptions) -> MomentumRun:
        """Begin a run."""
        return MomentumRun(options)


class MomentumRun:
    """The velocity of every parameter."""

    def __init__(self, options: MomentumOptions) -> None:
        self._options = options
        self._velocities: dict[str, FloatArray] = {}

    def update(self, name: str, value: FloatArray, gradient: FloatArray, rate: float) -> FloatArray:
        """Return the next value of a parameter."""
        velocity = self._velocities.setdefault(name, np.zeros_like(value))
        velocity *= np.float32(self._options.momentum)
        velocity += gradient + np.float32(self._options.weight_decay) * value
        following: FloatArray = value - np.float32(rate) * velocity
        return following

    def state(self) -> Mapping[str, FloatArray]:
        """Return the velocities by parameter."""
        return dict(self._velocities)

    def restore(self, state: Mapping[str, FloatArray]) -> None:
        """Go on from what `state` returned."""
        self._velocities = {name: np.array(array, dtype=np.float32) for name, array in state.items()}
