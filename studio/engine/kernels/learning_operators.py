"""Compiled kernels in the form of the operators that they stand for, and of their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from studio.engine import operators
from studio.engine.compiled_numpy import CompiledNumpy
from studio.engine.gradients.attention_gradients import softmax_gradient
from studio.engine.kernels import layer_kernels
from studio.engine.kernels.compiler_memory import give_compiler_back
from studio.engine.kernels.matrix_product import multiply

if TYPE_CHECKING:
    from studio.contracts import FloatArray


def compiled_numpy() -> CompiledNumpy:
    """Return NumPy with these kernels."""
    give_compiler_back()
    return CompiledNumpy(
        multiply,
        {
            operators.swiglu: swiglu,
            operators.rms_norm: rms_norm,
            operators.rotate_pairs: rotate_pairs,
            operators.rotate_halves: rotate_halves,
            operators.softmax: softmax,
            softmax_gradient: softmax_back,
        },
        {
            operators.swiglu: swiglu_back,
            operators.rms_norm: rms_norm_back,
            operators.rotate_pairs: lambda xp, gradient, x, cosines, sines: (
                rotate_pairs(xp, gradient, cosines, -sines),
            ),
            operators.rotate_halves: lambda xp, gradient, x, cosines, sines: (
                rotate_halves(xp, gradient, cosines, -sines),
            ),
        },
    )


def _plain(array: FloatArray) -> FloatArray:
    """Return an array as contiguous float32: itself where it is."""
    return np.ascontiguousarray(array, dtype=np.float32)


def swiglu(xp: Any, gate: FloatArray, up: FloatArray) -> FloatArray:
    """Stand for `operators.swiglu`."""
    gate, up = _plain(gate), _plain(up)
    out = np.empty_like(gate)
    layer_kernels.swiglu(gate.ctypes.data, up.ctypes.data, out.ctypes.data, gate.size)
    return out


def swiglu_back(
    xp: Any, gradient: FloatArray, gate: FloatArray, up: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Stand for its rule."""
    gradient, gate, up = _plain(gradient), _plain(gate), _plain(up)
    of_gate, of_up = np.empty_like(gate), np.empty_like(up)
    layer_kernels.swiglu_back(
        *(array.ctypes.data for array in (gradient, gate, up, of_gate, of_up)), gate.size
    )
    return of_gate, of_up


def rms_norm(xp: Any, x: FloatArray, weight: FloatArray, epsilon: float) -> FloatArray:
    """Stand for `operators.rms_norm`."""
    x, weight = _plain(x), _plain(weight)
    out = np.empty_like(x)
    layer_kernels.rms_norm(x.ctypes.data, weight.ctypes.data, out.ctypes.data, *x.shape, epsilon)
    return out


def rms_norm_back(
    xp: Any, gradient: FloatArray, x: FloatArray, weight: FloatArray, epsilon: float
) -> tuple[FloatArray]:
    """Stand for its rule."""
    gradient, x, weight = _plain(gradient), _plain(x), _plain(weight)
    out = np.empty_like(x)
    layer_kernels.rms_norm_back(
        *(array.ctypes.data for array in (gradient, x, weight, out)), *x.shape, epsilon
    )
    return (out,)


def rotate_pairs(xp: Any, x: FloatArray, cosines: FloatArray, sines: FloatArray) -> FloatArray:
    """Stand for `operators.rotate_pairs`."""
    return _rotate(x, cosines, sines, 1)


def rotate_halves(xp: Any, x: FloatArray, cosines: FloatArray, sines: FloatArray) -> FloatArray:
    """Stand for `operators.rotate_halves`."""
    return _rotate(x, cosines, sines, cosines.shape[0])


def _rotate(x: FloatArray, cosines: FloatArray, sines: FloatArray, apart: int) -> FloatArray:
    x, cosines, sines = _plain(x), _plain(cosines), _plain(sines)
    out = np.empty_like(x)
    places = (array.ctypes.data for array in (x, cosines, sines, out))
    layer_kernels.rotate(*places, *x.shape, cosines.shape[0], apart, 1.0)
    return out


def softmax(xp: Any, scores: FloatArray, mask: FloatArray | None) -> FloatArray:
    """Stand for `operators.softmax`."""
    rows = scores.size // scores.shape[-1]
    mask_place, mask_row, queries = (
        (0, 0, 1) if mask is None else (mask.ctypes.data, mask.strides[0], mask.shape[0])
    )
    layer_kernels.softmax(scores.ctypes.data, mask_place, mask_row, queries, rows, scores.shape[-1])
    return scores


def softmax_back(xp: Any, gradient: FloatArray, likely: FloatArray) -> FloatArray:
    """Stand for `softmax_gradient`."""
    rows = likely.size // likely.shape[-1]
    layer_kernels.softmax_back(gradient.ctypes.data, likely.ctypes.data, rows, likely.shape[-1])
    return gradient
