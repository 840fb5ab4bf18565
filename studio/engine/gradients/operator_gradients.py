"""How gradients flow back through the operators: a rule for each.

A rule is given the gradient of the output and what its operator was given, and returns the gradients of the
first operands, which are the activations: nobody asks for those of norms' weights, of angles or of masks.
What it needs of the way there it computes again. Each rule is checked against differences in float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeAlias

from studio.engine import operators
from studio.engine.blocks import blocks
from studio.engine.gradients.attention_gradients import attention
from studio.engine.gradients.tape import gradient_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.backend import Array

Unary: TypeAlias = "tuple[Array]"
Binary: TypeAlias = "tuple[Array, Array]"

gradient_of(operators.attention)(attention)


@gradient_of(operators.rms_norm)
def rms_norm(xp: Any, gradient: Array, x: Array, weight: Array, epsilon: float) -> Unary:
    """D x = (w g - n mean(n w g)) / r, where n = x / r is the normed column and r its root mean square."""
    return (_rms_norm(xp, gradient, x, weight[:, None], epsilon, axis=0),)


@gradient_of(operators.head_norm)
def head_norm(xp: Any, gradient: Array, x: Array, weight: Array, epsilon: float) -> Unary:
    """As `rms_norm`, head by head."""
    return (_rms_norm(xp, gradient, x, weight[..., None, None], epsilon, axis=1),)


def _rms_norm(xp: Any, gradient: Array, x: Array, weight: Array, epsilon: float, axis: int) -> Array:
    mean_square = xp.mean(xp.square(x), axis=axis, keepdims=True)
    scale = 1 / xp.sqrt(operators.finite_or_nan(xp, mean_square) + epsilon)
    normed, weighted = x * scale, gradient * weight
    normed *= xp.mean(normed * weighted, axis=axis, keepdims=True)
    weighted -= normed
    weighted *= scale
    return weighted


@gradient_of(operators.layer_norm)
def layer_norm(
    xp: Any, gradient: Array, x: Array, weight: Array, bias: Array | None, epsilon: float
) -> Unary:
    """As `rms_norm` of the centred column; centring takes the gradient's mean away."""
    inner = _rms_norm(xp, gradient, x - xp.mean(x, axis=0), weight[:, None], epsilon, axis=0)
    return (inner - xp.mean(inner, axis=0),)


@gradient_of(operators.head_layer_norm)
def head_layer_norm(xp: Any, gradient: Array, x: Array, weight: Array, epsilon: float) -> Unary:
    """As `layer_norm`, head by head."""
    (inner,) = head_norm(xp, gradient, x - xp.mean(x, axis=1, keepdims=True), weight, epsilon)
    return (inner - xp.mean(inner, axis=1, keepdims=True),)


@gradient_of(operators.rotate_pairs)
def rotate_pairs(xp: Any, gradient: Array, x: Array, cosines: Array, sines: Array) -> Unary:
    """Turn back by the same angles: a rotation's inverse is its transpose."""
    return (operators.rotate_pairs(xp, gradient, cosines, -sines),)


@gradient_of(operators.rotate_halves)
def rotate_halves(xp: Any, gradient: Array, x: Array, cosines: Array, sines: Array) -> Unary:
    """Turn back by the same angles."""
    return (operators.rotate_halves(xp, gradient, cosines, -sines),)


@gradient_of(operators.soft_cap)
def soft_cap(xp: Any, gradient: Array, x: Array, limit: float) -> Unary:
    """Multiply by 1 - tanh^2, the slope of limit tanh(x / limit)."""
    return (gradient * (1 - xp.square(xp.tanh(x / limit))),)


@gradient_of(operators.swiglu)
def swiglu(xp: Any, gradient: Array, gate: Array, up: Array) -> Binary:
    """Multiply by s (1 + x (1 - s)), the slope of silu, with s = sigmoid(x)."""
    of_gate, of_up = xp.empty_like(gate), xp.empty_like(up)
    for rows in blocks(xp, gate.shape[0], gate.dtype.itemsize * gate.shape[1]):
        opening = operators.sigmoid(xp, gate[rows])
        activated = xp.multiply(gate[rows], opening, out=of_gate[rows])
        xp.multiply(gradient[rows], activated, out=of_up[rows])
        activated -= activated * opening
        activated += opening  # x s - x s s + s = s (1 + x (1 - s))
        activated *= up[rows]
        activated *= gradient[rows]
    return of_gate, of_up


@gradient_of(operators.sigmoid)
def sigmoid(xp: Any, gradient: Array, x: Array) -> Unary:
    """Multiply by s (1 - s)."""
    opening = operators.sigmoid(xp, x)
    return (gradient * opening * (1 - opening),)


@gradient_of(operators.gelu)
def gelu(xp: Any, gradient: Array, x: Array) -> Unary:
    """Differentiate the approximation itself."""
    return (gradient * _gelu_slope(xp, x),)


@gradient_of(operators.geglu)
def geglu(xp: Any, gradient: Array, gate: Array, up: Array) -> Binary:
    """As `gelu`, times the other operand."""
    return gradient * up * _gelu_slope(xp, gate), gradient * operators.gelu(xp, gate)


def _gelu_slope(xp: Any, x: Array) -> Array:
    factor = math.sqrt(2 / math.pi)
    bent = xp.tanh(factor * (x + 0.044715 * (x * x * x)))
    inner_slope = factor * (1 + 3 * 0.044715 * (x * x))
    return 0.5 * (1 + bent) + 0.5 * x * (1 - bent * bent) * inner_slope


@gradient_of(operators.expert_shares)
def expert_shares(xp: Any, gradient: Array, scores: Array, chosen: Array, *, sum_to_one: bool) -> Unary:
    """Differentiate the softmax, p (g - sum(g p)); which experts were chosen is a constant."""
    likely = operators.softmax_of_experts(xp, scores, chosen if sum_to_one else None)
    counted = gradient * chosen
    return (likely * (counted - xp.sum(counted * likely, axis=0)),)


@gradient_of(operators.sum_of_columns)
def sum_of_columns(
    xp: Any, gradient: Array, *parts: Array, places: Sequence[Array], count: int
) -> tuple[Array, ...]:
    """Take of the sum's gradient what each part was added to."""
    return tuple(gradient[:, place] for place in places)
