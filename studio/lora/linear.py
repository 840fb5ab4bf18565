"""`LoraLinear`: one linear layer with one adapter, for trying LoRA by hand."""

from __future__ import annotations

import copy
import math
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.low_rank import low_rank_delta
from studio.errors import MismatchError, StudioError
from studio.lora.adapter import LoraFactors
from studio.lora.initial import Start, initial_a
from studio.lora.layers import LinearInfo

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from studio.contracts import FloatArray


class LoraLinear:
    """A frozen linear layer plus a low-rank delta: y = W x + alpha / rank * B (A x).

    A starts at random and B at zero, so a new layer gives the outputs of its weight alone (Hu et al. 2021,
    https://arxiv.org/abs/2106.09685, section 4.1). It satisfies `studio.lora.layers.Layer`.

    Parameters
    ----------
    weight
        The frozen weight W, ``(out, in)``.
    rank
        At least 1.
    alpha
        Finite; the delta is scaled by alpha / rank.
    start
        How A starts: Kaiming-uniform, or N(0, 1).
    seed
        Seed of A's random start; None draws a fresh one.
    name
        The name that it has in a `Model`.
    """

    op_type = "LoraLinear"

    def __init__(
        self,
        weight: FloatArray,
        rank: int,
        alpha: float,
        *,
        start: Start = "kaiming",
        seed: int | None = None,
        name: str = "",
    ) -> None:
        self.name = name
        self._frozen = np.array(weight, dtype=np.float32)
        if self._frozen.ndim != 2 or 0 in self._frozen.shape:
            raise MismatchError(f"the weight must be (out, in), not {self._frozen.shape}")
        if rank < 1:
            raise StudioError(f"the rank must be at least 1, not {rank}")
        if not math.isfinite(alpha):
            raise StudioError(f"alpha must be finite, not {alpha}")
        self._frozen.flags.writeable = False
        self._alpha = float(alpha)
        self._merged: FloatArray | None = None
        self._enabled = True
        self._a = _frozen_copy(initial_a((rank, self.in_features), start, np.random.default_rng(seed)))
        self._b = _frozen_copy(np.zeros((self.out_features, rank)))

    def __repr__(self) -> str:
        """Show name, size, rank, alpha and state."""
        state = "merged" if self.is_merged else "enabled" if self._enabled else "disabled"
        size = f"{self.in_features} -> {self.out_features}"
        return f"LoraLinear({self.name!r}, {size}, rank {self.rank}, alpha {self.alpha:g}, {state})"

    @property
    def in_features(self) -> int:
        """The length of an input."""
        return int(self._frozen.shape[1])

    @property
    def out_features(self) -> int:
        """The length of an output."""
        return int(self._frozen.shape[0])

    @property
    def rank(self) -> int:
        """The inner dimension of the delta."""
        return int(self._a.shape[0])

    @property
    def alpha(self) -> float:
        """The numerator of the scaling."""
        return self._alpha

    @property
    def scaling(self) -> float:
        """Alpha / rank."""
        return self._alpha / self.rank

    @property
    def weight(self) -> FloatArray:
        """The weight ``(out, in)`` as it stands: with the delta in it while merged. Read-only."""
        return self._frozen if self._merged is None else self._merged

    @property
    def lora_a(self) -> FloatArray:
        """The factor A, ``(rank, in)``, read-only; set it to replace it."""
        return self._a

    @lora_a.setter
    def lora_a(self, a: FloatArray) -> None:
        self._a = self._checked("A", a, (self.rank, self.in_features))

    @property
    def lora_b(self) -> FloatArray:
        """The factor B, ``(out, rank)``, read-only; set it to replace it."""
        return self._b

    @lora_b.setter
    def lora_b(self, b: FloatArray) -> None:
        self._b = self._checked("B", b, (self.out_features, self.rank))

    @property
    def factors(self) -> LoraFactors:
        """The same delta as the factors of an `Adapter`."""
        return LoraFactors(self._a, self._b, self._alpha)

    @factors.setter
    def factors(self, factors: LoraFactors) -> None:
        self.check_factors(factors)
        self._a, self._b = factors.a, factors.b
        self._alpha = factors.scaling * factors.rank

    def check_factors(self, factors: LoraFactors) -> None:
        """Refuse factors that `factors` cannot be set to. Raises `MismatchError` or `StudioError`."""
        if factors.shape != self._frozen.shape:
            raise MismatchError(
                f"the factors are for a weight {factors.shape}, this one is {self._frozen.shape}",
                where=self.name or None,
            )
        self._check_changeable("The factors")

    @property
    def info(self) -> LinearInfo:
        """The dimensions of the layer."""
        return LinearInfo(self.in_features, self.out_features)

    @property
    def attributes(self) -> Mapping[str, float]:
        """Rank, alpha and scaling, by name."""
        return {"rank": self.rank, "alpha": self.alpha, "scaling": self.scaling}

    @property
    def output_shape(self) -> tuple[int, ...]:
        """The shape of one output, ``(out,)``."""
        return (self.out_features,)

    @property
    def parameters(self) -> Mapping[str, FloatArray]:
        """A and B: all that training changes."""
        return {"lora_a": self._a, "lora_b": self._b}

    @property
    def is_enabled(self) -> bool:
        """Whether the delta is heard."""
        return self._enabled

    @property
    def is_merged(self) -> bool:
        """Whether the delta stands in the weight."""
        return self._merged is not None

    @property
    def trainable_params(self) -> int:
        """The size of A and B: rank * (in + out)."""
        return int(self._a.size + self._b.size)

    @property
    def total_params(self) -> int:
        """The size of the weight, A and B."""
        return int(self._frozen.size) + self.trainable_params

    @property
    def compression_ratio(self) -> float:
        """Trainable parameters over all parameters."""
        return self.trainable_params / self.total_params

    def enable(self) -> None:
        """Let the delta be heard."""
        self._enabled = True

    def disable(self) -> None:
        """Give W x alone, merged or not."""
        self._enabled = False

    def merge(self) -> None:
        """Put the delta into the weight: W + scaling * B A. Does nothing when it is there."""
        if self._merged is None:
            merged = self._frozen + np.float32(self.scaling) * (self._b @ self._a)
            merged.flags.writeable = False
            self._merged = merged

    def unmerge(self) -> None:
        """Take the delta out again; the weight is then what it was, bit for bit."""
        self._merged = None

    def forward(self, inputs: FloatArray) -> FloatArray:
        """Map one input ``[in]`` to its output ``[out]``."""
        return self._forward(inputs, ndim=1)

    def forward_batch(self, inputs: FloatArray) -> FloatArray:
        """Map inputs ``[T, in]`` to outputs ``[T, out]``."""
        return self._forward(inputs, ndim=2)

    def clone(self) -> LoraLinear:
        """Return an independent copy; the read-only arrays are shared until one side replaces its own."""
        return copy.copy(self)

    def _forward(self, inputs: FloatArray, ndim: int) -> FloatArray:
        inputs = np.asarray(inputs, dtype=np.float32)
        if inputs.ndim != ndim or inputs.shape[-1] != self.in_features:
            wanted = f"({'T, ' if ndim == 2 else ''}{self.in_features})"
            raise MismatchError(f"inputs must be {wanted}, not {inputs.shape}")
        weight = self.weight if self._enabled else self._frozen
        outputs: FloatArray = inputs @ weight.T  # [T, in] @ [in, out] -> [T, out]
        if self._enabled and self._merged is None:
            outputs = outputs + low_rank_delta(inputs, self._a, self._b, np.float32(self.scaling))
        return outputs

    def _check_changeable(self, name: str) -> None:
        if self.is_merged:
            raise StudioError(f"{name} cannot change while merged", remedy="Call unmerge first")

    def _checked(self, name: str, array: FloatArray, shape: tuple[int, int]) -> FloatArray:
        self._check_changeable(name)
        if np.shape(array) != shape:
            raise MismatchError(f"{name} must be {shape}, not {np.shape(array)}")
        if not np.isfinite(array).all():
            raise StudioError(f"{name} holds NaN or infinity")
        return _frozen_copy(array)


def _frozen_copy(array: ArrayLike) -> FloatArray:
    result: FloatArray = np.array(array, dtype=np.float32)
    result.flags.writeable = False
    return result
