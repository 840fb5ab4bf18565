"""Spherical interpolation of two deltas, which stays in factors: a sum weighted by their angle."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.contracts import DeltaPart
from studio.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.lora.algebra.singular import Doubles

COLLINEAR = 1e-8
"""The sine below which two directions count as one, so that the way between them is a straight line."""

Direction: TypeAlias = Literal["matrix", "rows", "columns"]
"""What has an angle: the whole delta as one vector, each of its rows, or each of its columns."""


def slerp(module: str, parts: Sequence[DeltaPart], *, t: float) -> DeltaPart:
    """Go the share t of the way from the first delta to the second, both as they are heard, along the arc.

    Shoemake 1985, https://doi.org/10.1145/325165.325242. A module that only one of them has is left as it is.

    Raises
    ------
    UnsupportedError
        More than two adapters are audible.
    """
    if len(parts) == 1:
        return parts[0]
    return _between(module, parts, (parts[0].scale, parts[1].scale), t, "matrix")


def nuslerp(module: str, parts: Sequence[DeltaPart], *, direction: Direction) -> DeltaPart:
    """Interpolate between two deltas as trained, going by the second's share of both weights.

    mergekit's NuSLERP: https://github.com/arcee-ai/mergekit. Weights that add up to 0 meet in the middle.

    Raises
    ------
    UnsupportedError
        More than two adapters are audible.
    """
    own = [part.scale / part.weight for part in parts]
    if len(parts) == 1:
        return DeltaPart(parts[0].a, parts[0].b, own[0])
    total = sum(part.weight for part in parts)
    t = parts[-1].weight / total if abs(total) > 1e-6 else 0.5
    return _between(module, parts, (own[0], own[1]), t, direction)


def _between(
    module: str, parts: Sequence[DeltaPart], scales: tuple[float, float], t: float, direction: Direction
) -> DeltaPart:
    if len(parts) > 2:
        raise UnsupportedError(
            f"{len(parts)} adapters are audible here, and spherical interpolation takes two",
            where=module,
            remedy="Mute the others, or choose another method",
        )
    first, second = (DeltaPart(part.a, part.b, scale) for part, scale in zip(parts, scales, strict=True))
    one, two = _arc(_products(first, first, direction), _products(first, second, direction),
                    _products(second, second, direction), t)  # fmt: skip
    # A weight for each row goes into B, one for each column into A.
    if direction == "columns":
        a = np.concatenate([first.a * one, second.a * two], axis=-2)
        b = np.concatenate([first.b * np.float64(first.scale), second.b * np.float64(second.scale)], axis=-1)
    else:
        a = np.concatenate([first.a, second.a], axis=-2)
        b = np.concatenate([first.b * (first.scale * one), second.b * (second.scale * two)], axis=-1)
    return DeltaPart(a.astype(np.float32), b.astype(np.float32), 1.0)


def _arc(own: Doubles, mixed: Doubles, other: Doubles, t: float) -> tuple[Doubles, Doubles]:
    """Return the weights of two vectors at t of the way between them, given their inner products."""
    lengths = np.sqrt(own * other)
    cosines = np.divide(mixed, lengths, out=np.ones_like(lengths), where=lengths > 0)
    angles = np.arccos(np.clip(cosines, -1.0, 1.0))
    sines = np.sin(angles)
    bent = sines > COLLINEAR
    sines = np.where(bent, sines, 1.0)
    return (
        np.where(bent, np.sin((1 - t) * angles) / sines, 1 - t),
        np.where(bent, np.sin(t * angles) / sines, t),
    )


def _products(first: DeltaPart, second: DeltaPart, direction: Direction) -> Doubles:
    """Return the inner products of two deltas: ``[..., 1, 1]``, ``[..., out, 1]`` or ``[..., 1, in]``."""
    a, other_a = first.a.astype(np.float64), second.a.astype(np.float64)
    b, other_b = first.b.astype(np.float64), second.b.astype(np.float64)
    scale = first.scale * second.scale
    if direction == "columns":
        inner = b.swapaxes(-1, -2) @ other_b  # [R, R']
        return np.asarray(scale * ((inner @ other_a) * a).sum(axis=-2, keepdims=True))
    rows = ((b @ (a @ other_a.swapaxes(-1, -2))) * other_b).sum(axis=-1, keepdims=True)  # [out, 1]
    return np.asarray(scale * (rows if direction == "rows" else rows.sum(axis=-2, keepdims=True)))
