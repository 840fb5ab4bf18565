"""NumPy with compiled operators beside it: what the CPU learns with, where its kernels are."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from studio.engine.backend import Array, Backend

SWITCH = "LORA_STUDIO_KERNELS"
"""The environment variable that, set to ``off``, leaves everything to NumPy."""


class Multiply(Protocol):
    """Computes M X, and adds it to a total where one is given."""

    def __call__(self, matrix: Array, columns: Array, total: Array | None = None) -> Array:
        """Multiply ``[out, in] @ [in, C] -> [out, C]``; a total is changed in place, and returned."""


def plain_product(matrix: Array, columns: Array, total: Array | None = None) -> Array:
    """Multiply as the array module does."""
    if total is None:
        return matrix @ columns
    total += matrix @ columns
    return total


@dataclass(frozen=True)
class CompiledNumpy:
    """An array module: NumPy's functions, and faster forms of some operators.

    Attributes
    ----------
    matrix_product
        Its product of matrices, for one thread.
    operators
        What stands for an operator, and takes what it takes.
    rules
        What stands for the rule of its gradient.
    """

    matrix_product: Multiply
    operators: Mapping[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)
    rules: Mapping[Callable[..., Any], Callable[..., Any]] = field(default_factory=dict)

    def __getattr__(self, name: str) -> Any:
        """Return NumPy's own."""
        return getattr(np, name)


def is_host(xp: Any) -> bool:
    """Say whether the arrays of a module are NumPy's."""
    return xp is np or isinstance(xp, CompiledNumpy)


def product_of(xp: Any) -> Multiply:
    """Return how an array module multiplies matrices."""
    return xp.matrix_product if isinstance(xp, CompiledNumpy) else plain_product


def fastest_module(backend: Backend) -> Any:
    """Return the array module that a backend learns with; the first call may take seconds."""
    if backend.name != "NumPy" or os.environ.get(SWITCH) == "off":
        return backend.xp
    return _compiled() or backend.xp


@cache
def _compiled() -> CompiledNumpy | None:
    """Return NumPy with kernels, where this machine can have them: they want AVX-512's registers."""
    try:
        from studio.engine.kernels.cpu import has

        if sys.platform == "win32" or not has("avx512f"):
            return None
        from studio.engine.kernels.learning_operators import compiled_numpy
    except ImportError:
        return None
    return compiled_numpy()
