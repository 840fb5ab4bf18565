"""How gradients flow back through attention, a few queries at a time: no score is remembered.

Dao et al. 2022, https://arxiv.org/abs/2205.14135, section 3.1 and appendix B: the softmax is computed again
from queries and keys.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from studio.engine import operators
from studio.engine.blocks import blocks
from studio.engine.gradients.tape import operator

if TYPE_CHECKING:
    from studio.engine.backend import Array


def attention(
    xp: Any,
    gradient: Array,
    queries: Array,
    keys: Array,
    values: Array,
    mask: Array | None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Array, Array, Array]:
    """Backward through P = softmax(S), S = scale Q K^T + mask: d S = P (d P - sum(d P P)), row by row.

    Parameters
    ----------
    gradient
        ``[heads * head_size, N * T]``; all others are as in `studio.engine.operators.attention`.
    """
    heads, size, blends, length = queries.shape
    groups, span = keys.shape[1], keys.shape[2]
    members = heads // groups
    factor = 1 / math.sqrt(size) if scale is None else scale
    by_member = (groups, members, size, blends, length)
    rows = (queries * factor).reshape(by_member).transpose(3, 0, 1, 4, 2)  # [N, groups, members, T, size]
    of_mixed = gradient.reshape(by_member).transpose(3, 0, 1, 4, 2)
    keys_across, values_across = keys.swapaxes(-1, -2), values.swapaxes(-1, -2)  # [N, groups, size, S]
    of_rows = xp.empty(rows.shape, dtype=rows.dtype)
    of_keys, of_values = (xp.zeros(keys.shape, dtype=rows.dtype) for _ in range(2))
    each = rows.dtype.itemsize * blends * heads * span
    for some in blocks(xp, length, each, operators.LEAST_QUERIES):
        seen = span - length + some.stop if mask is not None else span
        count = some.stop - some.start
        block = (blends, groups, members * count)
        its_rows = rows[:, :, :, some].reshape(*block, size)
        of_its = of_mixed[:, :, :, some].reshape(*block, size)
        scores, slope = its_rows @ keys_across[..., :seen], None  # [N, groups, members * t, seen]
        if softcap is not None:
            scores = operators.soft_cap(xp, scores, softcap)
            slope = 1 - xp.square(scores / softcap)
        likely = operators.softmax(xp, scores, None if mask is None else mask[some, :seen])
        of_values[:, :, :seen] += likely.swapaxes(-1, -2) @ of_its
        of_scores = of_its @ values_across[..., :seen]  # of P
        of_scores = softmax_gradient(xp, of_scores, likely)
        if slope is not None:
            of_scores *= slope
        of_keys[:, :, :seen] += of_scores.swapaxes(-1, -2) @ its_rows
        of_its = of_scores @ keys[:, :, :seen]
        of_its *= factor
        of_rows[:, :, :, some] = of_its.reshape(blends, groups, members, count, size)
    of_queries = of_rows.transpose(1, 2, 4, 0, 3).reshape(heads, size, blends, length)
    return of_queries, of_keys, of_values


@operator
def softmax_gradient(xp: Any, gradient: Array, likely: Array) -> Array:
    """Turn the gradient of probabilities P into that of scores, P (g - sum(g P)), in place."""
    gradient -= (gradient * likely).sum(axis=-1, keepdims=True)
    gradient *= likely
    return gradient
