"""Many low-rank adapters on one module as one pair of products: concatenated factors and one scale vector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.errors import MismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import FloatArray, LowRankFactors


@dataclass(frozen=True)
class PackedFactors:
    """The factors of several adapters on one module, side by side along the rank.

    Attributes
    ----------
    a
        The A factors stacked by rows, float32 ``[R, in]`` with R the sum of the ranks; ``[E, R, in]`` for a
        module of E experts.
    b
        The B factors stacked by columns, float32 ``[out, R]`` or ``[E, out, R]``.
    scaling
        What each adapter itself scales by, repeated over its ranks, float32 ``[R]``.
    channel
        Which channel each rank belongs to, ``[R]``: an index into the vector of channel scales.
    """

    a: FloatArray
    b: FloatArray
    scaling: FloatArray
    channel: np.ndarray[Any, np.dtype[np.intp]]

    def rank_scales(self, channel_scales: FloatArray) -> FloatArray:
        """Turn one scale a channel ``[N]`` into one a rank ``[R]``: all that a moved slider changes."""
        scales: FloatArray = self.scaling * channel_scales[self.channel]
        return scales


def pack_factors(channels: Sequence[LowRankFactors | None]) -> PackedFactors | None:
    """Concatenate the factors of one module over the channels; None where no channel has the module.

    A channel without the module is passed as None and takes no rank. The factors of one alone are not copied.
    """
    present = [(index, factors) for index, factors in enumerate(channels) if factors is not None]
    if not present:
        return None
    ranks = [factors.a.shape[-2] for _, factors in present]
    return PackedFactors(
        a=_side_by_side([factors.a for _, factors in present], axis=-2),
        b=_side_by_side([factors.b for _, factors in present], axis=-1),
        scaling=np.repeat([factors.scaling for _, factors in present], ranks).astype(np.float32),
        channel=np.repeat([index for index, _ in present], ranks).astype(np.intp),
    )


def _side_by_side(arrays: Sequence[FloatArray], axis: int) -> FloatArray:
    joined = arrays[0] if len(arrays) == 1 else np.concatenate(arrays, axis=axis)
    return np.ascontiguousarray(joined, dtype=np.float32)


def weight_shape(factors: LowRankFactors) -> tuple[int, ...]:
    """Return the shape of the weight that factors fit: ``(out, in)``, or ``(E, out, in)`` for experts."""
    return (*factors.b.shape[:-1], factors.a.shape[-1])


def low_rank_delta(inputs: Any, a: Any, b: Any, rank_scales: Any) -> Any:
    """Compute sum_i s_i B_i A_i x for all channels at once, on whatever device the arrays live.

    Hu et al. 2021, https://arxiv.org/abs/2106.09685, section 4.1, summed over adapters by concatenation.
    Experts take a block of inputs each, ``[E, T, in]``: anything else raises `MismatchError`.
    """
    if a.ndim == 3 and inputs.shape[:-2] != a.shape[:1]:
        raise MismatchError(f"the inputs of {a.shape[0]} experts must be (E, T, in), not {inputs.shape}")
    hidden = inputs @ a.swapaxes(-1, -2)  # [T, in] @ [in, R] -> [T, R]
    return (hidden * rank_scales) @ b.swapaxes(-1, -2)  # [T, R] @ [R, out] -> [T, out]
