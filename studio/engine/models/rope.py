"""Rotary positions: by how much each pair of rows turns per position, scaled as the file says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from studio.engine.operators import causal_mask

if TYPE_CHECKING:
    from studio.engine.backend import Array, HostArray
    from studio.engine.model import ForwardPass
    from studio.engine.models.hyperparameters import Hyperparameters

ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class Rope:
    """The turning of queries and keys.

    Attributes
    ----------
    frequencies
        float64 ``[angles]``: by how many radians a position turns each pair of rows.
    magnitude
        What the turned rows are scaled by.
    """

    frequencies: HostArray
    magnitude: float = 1.0


class View(NamedTuple):
    """How the queries of one pass look at positions.

    Attributes
    ----------
    cosines, sines
        float32 ``[angles, 1, T]``: the turns of the new positions.
    first
        The position of the first key that any query sees.
    mask
        ``[T, start + T - first]``; None for one query.
    """

    cosines: Array
    sines: Array
    first: int
    mask: Array | None


def view(run: ForwardPass, rope: Rope, window: int | None = None) -> View:
    """Make the view of a pass; a query sees `window` positions, its own among them, or all for None."""
    positions = np.arange(run.start, run.start + run.length)
    angles = np.multiply.outer(rope.frequencies, positions)[:, None]  # [angles, 1, T]
    first = 0 if window is None else max(0, run.start - window + 1)
    return View(
        run.to_device((rope.magnitude * np.cos(angles)).astype(np.float32)),
        run.to_device((rope.magnitude * np.sin(angles)).astype(np.float32)),
        first,
        causal_mask(run.xp, run.start, run.length, first, window),
    )


def read_rope(read: Hyperparameters, rotated: int, base_key: str = "rope.freq_base") -> Rope:
    """Read base^(-2i / rotated) for each pair i, with the scaling that the file calls for.

    Linear scaling: Chen et al. 2023, https://arxiv.org/abs/2306.15595. Factors per pair, as Llama 3.1 has
    them, are a tensor of their own.

    Raises
    ------
    UnsupportedError
        For another kind of scaling than ``linear`` and ``yarn``.
    """
    base = read.number(base_key, 10000.0)
    frequencies = plain_frequencies(base, rotated)
    if ROPE_FACTORS in read.base.tensors:
        frequencies = frequencies / read.base.dense(ROPE_FACTORS)
    factor = read.number("rope.scaling.factor", read.number("rope.scale_linear", 1.0))
    scaling = read.value("rope.scaling.type") or "linear"
    if scaling == "none":
        return Rope(frequencies)
    if scaling == "linear":
        return Rope(frequencies / factor)
    if scaling == "yarn":
        return _yarn(read, frequencies, base, factor)
    raise read.unsupported("rope.scaling.type", f"RoPE scaling of the type {scaling!r}")


def plain_frequencies(base: float, rotated: int) -> HostArray:
    """Return base^(-2i / rotated) for each pair i, ``[rotated / 2]``."""
    frequencies: HostArray = base ** (-np.arange(0, rotated, 2, dtype=np.float64) / rotated)
    return frequencies


def _yarn(read: Hyperparameters, frequencies: HostArray, base: float, factor: float) -> Rope:
    """Slow the slow pairs down, leave the fast ones, and blend between: YaRN.

    Peng et al. 2023, https://arxiv.org/abs/2309.00071, section 3.2 to 3.4.
    """
    rotated = 2 * len(frequencies)
    context = read.count("rope.scaling.original_context_length", read.count("context_length"))

    def pair_that_turns(times: float) -> float:
        """Return which pair makes this many full turns within the original context."""
        return rotated * math.log(context / (times * 2 * math.pi)) / (2 * math.log(base))

    fast = pair_that_turns(read.number("rope.scaling.yarn_beta_fast", 32.0))
    slow = pair_that_turns(read.number("rope.scaling.yarn_beta_slow", 1.0))
    low, high = max(math.floor(fast), 0), min(math.ceil(slow), rotated - 1)
    ramp = np.clip((np.arange(rotated // 2) - low) / max(0.001, high - low), 0, 1)
    kept = (1 - ramp) * read.number("rope.scaling.yarn_ext_factor", 1.0)  # [angles]
    blended = frequencies * kept + frequencies / factor * (1 - kept)

    def temperature(multiplier: float) -> float:
        return 1.0 if factor <= 1 else 0.1 * multiplier * math.log(factor) + 1

    magnitude = temperature(1.0)
    if read.value("rope.scaling.yarn_log_multiplier"):
        magnitude /= temperature(read.number("rope.scaling.yarn_log_multiplier"))
    magnitude = read.number("rope.scaling.yarn_attn_factor", magnitude)
    return Rope(blended, magnitude * read.number("rope.scaling.attn_factor", 1.0))
