"""How gradients flow back through the operators: a rule for each, which returns its output and its backward.

A rule is called as its operator is, with arrays; it gives the gradients of the first operands, which are the
activations: nobody asks for those of norms' weights, of angles or of masks. Each rule is checked against
differences in float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from studio.engine import operators
from studio.engine.tape import gradient_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.engine.backend import Array

    Unary = Callable[[Array], tuple[Array]]
    Binary = Callable[[Array], tuple[Array, Array]]
    Ternary = Callable[[Array], tuple[Array, Array, Array]]


@gradient_of(operators.rms_norm)
def rms_norm(xp: Any, x: Array, weight: Array, epsilon: float) -> tuple[Array, Unary]:
    """D x = (w g - n mean(n w g)) / r, where n = x / r is the normed column and r its root mean square."""
    return _rms_norm(xp, x, weight[:, None], epsilon, axis=0)


@gradient_of(operators.head_norm)
def head_norm(xp: Any, x: Array, weight: Array, epsilon: float) -> tuple[Array, Unary]:
    """As `rms_norm`, head by head."""
    return _rms_norm(xp, x, weight[..., None, None], epsilon, axis=1)


def _rms_norm(xp: Any, x: Array, weight: Array, epsilon: float, axis: int) -> tuple[Array, Unary]:
    mean_square = xp.mean(xp.square(x), axis=axis, keepdims=True)
    root = xp.sqrt(operators.finite_or_nan(xp, mean_square) + epsilon)

    def backward(gradient: Array) -> tuple[Array]:
        normed, weighted = x / root, gradient * weight
        shared = xp.mean(normed * weighted, axis=axis, keepdims=True)
        return ((weighted - normed * shared) / root,)

    return x / root * weight, backward


@gradient_of(operators.layer_norm)
def layer_norm(xp: Any, x: Array, weight: Array, bias: Array | None, epsilon: float) -> tuple[Array, Unary]:
    """As `rms_norm` of the centred column; centring takes the gradient's mean away."""
    centred = x - xp.mean(x, axis=0)
    normed, backward_of_norm = _rms_norm(xp, centred, weight[:, None], epsilon, axis=0)

    def backward(gradient: Array) -> tuple[Array]:
        (inner,) = backward_of_norm(gradient)
        return (inner - xp.mean(inner, axis=0),)

    return normed if bias is None else normed + bias[:, None], backward


@gradient_of(operators.head_layer_norm)
def head_layer_norm(xp: Any, x: Array, weight: Array, epsilon: float) -> tuple[Array, Unary]:
    """As `layer_norm`, head by head."""
    centred = x - xp.mean(x, axis=1, keepdims=True)
    normed, backward_of_norm = head_norm(xp, centred, weight, epsilon)

    def backward(gradient: Array) -> tuple[Array]:
        (inner,) = backward_of_norm(gradient)
        return (inner - xp.mean(inner, axis=1, keepdims=True),)

    return normed, backward


@gradient_of(operators.rotate_pairs)
def rotate_pairs(xp: Any, x: Array, cosines: Array, sines: Array) -> tuple[Array, Unary]:
    """Turn back by the same angles: a rotation's inverse is its transpose."""
    turned = operators.rotate_pairs(xp, x, cosines, sines)
    return turned, lambda gradient: (operators.rotate_pairs(xp, gradient, cosines, -sines),)


@gradient_of(operators.rotate_halves)
def rotate_halves(xp: Any, x: Array, cosines: Array, sines: Array) -> tuple[Array, Unary]:
    """Turn back by the same angles."""
    turned = operators.rotate_halves(xp, x, cosines, sines)
    return turned, lambda gradient: (operators.rotate_halves(xp, gradient, cosines, -sines),)


@gradient_of(operators.attention)
def attention(
    xp: Any,
    queries: Array,
    keys: Array,
    values: Array,
    mask: Array | None,
    *,
    scale: float | None = None,
    softcap: float | None = None,
) -> tuple[Array, Ternary]:
    """Backward through P = softmax(S), S = scale Q K^T + mask: d S = P (d P - sum(d P P)), row by row."""
    heads, size, blends, length = queries.shape
    groups, span = keys.shape[1], keys.shape[2]
    members = heads // groups
    factor = 1 / math.sqrt(size) if scale is None else scale
    grouped = (queries * factor).reshape(groups, members, size, blends, length)
    rows = grouped.transpose(3, 0, 1, 4, 2).reshape(blends, groups, members * length, size)
    scores = rows @ keys.swapaxes(-1, -2)  # [N, groups, members * T, S]
    slope = None
    if softcap is not None:
        scores = operators.soft_cap(xp, scores, softcap)
        slope = 1 - xp.square(scores / softcap)
    if mask is not None:
        scores.reshape(blends, groups, members, length, span)[:] += mask
    scores -= scores.max(axis=-1, keepdims=True)
    likely = xp.exp(scores, out=scores)
    likely /= likely.sum(axis=-1, keepdims=True)  # P
    mixed = likely @ values  # [N, groups, members * T, size]
    by_head = mixed.reshape(blends, groups, members, length, size).transpose(1, 2, 4, 0, 3)

    def backward(gradient: Array) -> tuple[Array, Array, Array]:
        by_member = gradient.reshape(groups, members, size, blends, length).transpose(3, 0, 1, 4, 2)
        of_mixed = by_member.reshape(blends, groups, members * length, size)
        of_values = likely.swapaxes(-1, -2) @ of_mixed  # [N, groups, S, size]
        of_scores = of_mixed @ values.swapaxes(-1, -2)  # of P: [N, groups, members * T, S]
        of_scores -= (of_mixed * mixed).sum(axis=-1, keepdims=True)  # = sum(d P P)
        of_scores *= likely
        if slope is not None:
            of_scores *= slope
        of_keys = of_scores.swapaxes(-1, -2) @ rows  # [N, groups, S, size]
        of_rows = (of_scores @ keys) * factor
        of_queries = of_rows.reshape(blends, groups, members, length, size).transpose(1, 2, 4, 0, 3)
        return of_queries.reshape(heads, size, blends, length), of_keys, of_values

    return by_head.reshape(heads * size, blends * length), backward


@gradient_of(operators.soft_cap)
def soft_cap(xp: Any, x: Array, limit: float) -> tuple[Array, Unary]:
    """Multiply by 1 - tanh^2, the slope of limit tanh(x / limit)."""
    capped = operators.soft_cap(xp, x, limit)
    return capped, lambda gradient: (gradient * (1 - xp.square(capped / limit)),)


@gradient_of(operators.swiglu)
def swiglu(xp: Any, gate: Array, up: Array) -> tuple[Array, Binary]:
    """Multiply by s (1 + x (1 - s)), the slope of silu, with s = sigmoid(x)."""

    def backward(gradient: Array) -> tuple[Array, Array]:
        opening = operators.sigmoid(xp, gate)
        activated = gate * opening
        slope = opening + activated * (1 - opening)
        return gradient * up * slope, gradient * activated

    return operators.swiglu(xp, gate, up), backward


@gradient_of(operators.sigmoid)
def sigmoid(xp: Any, x: Array) -> tuple[Array, Unary]:
    """Multiply by s (1 - s)."""
    opening = operators.sigmoid(xp, x)
    return opening, lambda gradient: (gradient * opening * (1 - opening),)


@gradient_of(operators.gelu)
def gelu(xp: Any, x: Array) -> tuple[Array, Unary]:
    """Differentiate the approximation itself."""
    return operators.gelu(xp, x), lambda gradient: (gradient * _gelu_slope(xp, x),)


@gradient_of(operators.geglu)
def geglu(xp: Any, gate: Array, up: Array) -> tuple[Array, Binary]:
    """As `gelu`, times the other operand."""
    return operators.geglu(xp, gate, up), lambda gradient: (
        gradient * up * _gelu_slope(xp, gate),
        gradient * operators.gelu(xp, gate),
    )


def _gelu_slope(xp: Any, x: Array) -> Array:
    factor = math.sqrt(2 / math.pi)
    bent = xp.tanh(factor * (x + 0.044715 * (x * x * x)))
    inner_slope = factor * (1 + 3 * 0.044715 * (x * x))
    return 0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * inner_slope
