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
from studio.lora.parameter import Parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike

    from studio.contracts import FloatArray
    from studio.formats.nf4 import Nf4Tensor


class LoraLinear:
    """A frozen linear layer plus a low-rank delta: y = W x + alpha / rank * B (A x).

    A starts at random and B at zero, so a new layer gives the outputs of its weight alone (Hu et al. 2021,
    https://arxiv.org/abs/2106.09685, section 4.1). It satisfies `studio.lora.layers.Layer`.

    Parameters
    ----------
    weight
        The frozen weight W, ``(out, in)``; one in NF4 stays so, and is turned into floats on the way.
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
        weight: FloatArray | Nf4Tensor,
        rank: int,
        alpha: float,
        *,
        start: Start = "kaiming",
        seed: int | None = None,
        name: str = "",
    ) -> None:
        self.name = name
        self._stored = _frozen_copy(weight) if isinstance(weight, np.ndarray | list) else weight
        if len(self._stored.shape) != 2 or 0 in self._stored.shape:
            raise MismatchError(f"the weight must be (out, in), not {self._stored.shape}")
        if rank < 1:
            raise StudioError(f"the rank must be at least 1, not {rank}")
        if not math.isfinite(alpha):
            raise StudioError(f"alpha must be finite, not {alpha}")
        self._alpha = float(alpha)
        self._merged: FloatArray | None = None
        self._enabled = True
        a = initial_a((rank, self.in_features), start, np.random.default_rng(seed))
        self._a = Parameter(_frozen_copy(a))
        self._b = Parameter(_frozen_copy(np.zeros((self.out_features, rank))))

    def __repr__(self) -> str:
        """Show name, size, rank, alpha and state."""
        state = "merged" if self.is_merged else "enabled" if self._enabled else "disabled"
        size = f"{self.in_features} -> {self.out_features}"
        return f"LoraLinear({self.name!r}, {size}, rank {self.rank}, alpha {self.alpha:g}, {state})"

    @property
    def in_features(self) -> int:
        """The length of an input."""
        return int(self._stored.shape[1])

    @property
    def out_features(self) -> int:
        """The length of an output."""
        return int(self._stored.shape[0])

    @property
    def rank(self) -> int:
        """The inner dimension of the delta."""
        return int(self.lora_a.shape[0])

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
    def _frozen(self) -> FloatArray:
        """The frozen weight, ``(out, in)``."""
        return self._stored if isinstance(self._stored, np.ndarray) else self._stored.dense()

    @property
    def lora_a(self) -> FloatArray:
        """The factor A, ``(rank, in)``, read-only; set it to replace it."""
        return self._a.value

    @lora_a.setter
    def lora_a(self, a: FloatArray) -> None:
        self._a = Parameter(self._checked("A", a, (self.rank, self.in_features)))

    @property
    def lora_b(self) -> FloatArray:
        """The factor B, ``(out, rank)``, read-only; set it to replace it."""
        return self._b.value

    @lora_b.setter
    def lora_b(self, b: FloatArray) -> None:
        self._b = Parameter(self._checked("B", b, (self.out_features, self.rank)))

    @property
    def factors(self) -> LoraFactors:
        """The same delta as the factors of an `Adapter`."""
        return LoraFactors(self.lora_a, self.lora_b, self._alpha)

    @factors.setter
    def factors(self, factors: LoraFactors) -> None:
        self.check_factors(factors)
        self._a, self._b = Parameter(factors.a), Parameter(factors.b)
        self._alpha = factors.scaling * factors.rank

    def check_factors(self, factors: LoraFactors) -> None:
        """Refuse factors that `factors` cannot be set to. Raises `MismatchError` or `StudioError`."""
        if factors.shape != self._stored.shape:
            raise MismatchError(
                f"the factors are for a weight {factors.shape}, this one is {self._stored.shape}",
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
    def parameters(self) -> Mapping[str, Parameter]:
        """A and B as they stand, with their gradients: all that training changes."""
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
        return int(self.lora_a.size + self.lora_b.size)

    @property
    def total_params(self) -> int:
        """The size of the weight, A and B."""
        return self.in_features * self.out_features + self.trainable_params

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
            merged = self._frozen + np.float32(self.scaling) * (self.lora_b @ self.lora_a)
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

    def backward(self, gradients: FloatArray, inputs: FloatArray) -> FloatArray:
        """Turn the gradients of outputs into those of the inputs, and add those of A and B to their storage.

        The weight is frozen, and gets none. While disabled, A and B get none either.

        Parameters
        ----------
        gradients
            Of a loss with respect to the outputs, ``[T, out]``.
        inputs
            What those outputs came from, ``[T, in]``.

        Returns
        -------
        FloatArray
            ``[T, in]``.

        Raises
        ------
        MismatchError
            A shape is wrong.
        StudioError
            The delta is merged: there is nothing of A and B in the outputs then.
        """
        self._check_changeable("The factors")
        inputs, gradients = (np.asarray(array, dtype=np.float32) for array in (inputs, gradients))
        for name, array, width in (
            ("inputs", inputs, self.in_features),
            ("gradients", gradients, self.out_features),
        ):
            if array.ndim != 2 or array.shape != (len(inputs), width):
                raise MismatchError(f"{name} must be (T, {width}), not {array.shape}")
        of_inputs: FloatArray = gradients @ self._frozen  # [T, out] @ [out, in] -> [T, in]
        if self._enabled:
            scaled = np.float32(self.scaling) * gradients
            of_hidden = scaled @ self.lora_b  # [T, out] @ [out, R] -> [T, R]
            self._b.gradient[...] += scaled.T @ (inputs @ self.lora_a.T)  # [out, T] @ [T, R]
            self._a.gradient[...] += of_hidden.T @ inputs  # [R, T] @ [T, in]
            of_inputs += of_hidden @ self.lora_a  # [T, R] @ [R, in]
        return of_inputs

    def clone(self) -> LoraLinear:
        """Return an independent copy; the read-only arrays are shared until one side replaces its own."""
        clone = copy.copy(self)
        clone._a, clone._b = Parameter(self.lora_a), Parameter(self.lora_b)
        return clone

    def _forward(self, inputs: FloatArray, ndim: int) -> FloatArray:
        inputs = np.asarray(inputs, dtype=np.float32)
        if inputs.ndim != ndim or inputs.shape[-1] != self.in_features:
            wanted = f"({'T, ' if ndim == 2 else ''}{self.in_features})"
            raise MismatchError(f"inputs must be {wanted}, not {inputs.shape}")
        weight = self.weight if self._enabled else self._frozen
        outputs: FloatArray = inputs @ weight.T  # [T, in] @ [in, out] -> [T, out]
        if self._enabled and self._merged is None:
            outputs = outputs + low_rank_delta(inputs, self.lora_a, self.lora_b, np.float32(self.scaling))
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
