"""The weights of one group as one, so that a single product serves them all, and how they are read so."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.compiled_numpy import plain_product
from studio.engine.packed_weight import PackedWeight, half_bytes, pack, stored_bytes
from studio.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.compiled_numpy import Multiply
    from studio.engine.model import LinearGroup
    from studio.engine.residency import Kind


@dataclass(frozen=True)
class Linear:
    """The fused weights of one group.

    Attributes
    ----------
    weight
        float32 ``[out, in]``, the rows of the group's weights one after the other; on a device it may be a
        `PackedWeight`.
    bias
        float32 ``[out, 1]``; None where no weight of the group has one.
    outputs
        How many of the rows belong to each weight.
    """

    weight: Array
    bias: Array | None
    outputs: tuple[int, ...]

    @property
    def inputs(self) -> int:
        """The length of an input."""
        return int(self.weight.shape[1])

    @property
    def biases(self) -> tuple[Array | None, ...]:
        """The bias of each weight, ``[out, 1]``, or None."""
        return (None,) * len(self.outputs) if self.bias is None else tuple(_split(self.bias, self.outputs))

    def on(self, backend: Backend) -> Linear:
        """Bring host arrays to the device."""
        bias = None if self.bias is None else backend.to_device(self.bias)
        if isinstance(self.weight, PackedWeight):
            return Linear(self.weight.on(backend), bias, self.outputs)
        return Linear(backend.to_device(self.weight), bias, self.outputs)

    def apply(self, columns: Array, multiply: Multiply = plain_product) -> tuple[Array, ...]:
        """Multiply: ``[in, C]`` to one ``[out_i, C]`` for each weight of the group."""
        product = multiply(self.weight, columns)  # [out, in] @ [in, C] -> [out, C]
        if self.bias is not None:
            product += self.bias
        return tuple(_split(product, self.outputs))

    def apply_transposed(self, columns: Sequence[Array], multiply: Multiply = plain_product) -> Array:
        """Multiply one ``[out_i, C]`` for each weight of the group by the transposed weights: ``[in, C]``."""
        if isinstance(self.weight, PackedWeight):
            return self.weight.matmul_transposed(columns)
        total = None
        for weight, part in zip(_split(self.weight, self.outputs), columns, strict=True):
            total = multiply(weight.T, part, total)  # [in, out_i] @ [out_i, C]
        return total


def fuse(base: BaseModel, group: LinearGroup, kind: Kind) -> tuple[Linear, ...]:
    """Read the weights of a group into one, or into one for each expert."""
    shapes = [_matrix_shape(base.tensors[name].shape) for name in group]
    outputs, width = tuple(shape[-2] for shape in shapes), shapes[0][-1]
    if len(shapes[0]) == 3:
        experts = range(shapes[0][0])
        if kind == "dense":
            by_expert = np.concatenate([finite(base, name) for name in group], axis=1)  # [E, out, in]
            return tuple(Linear(by_expert[expert], None, outputs) for expert in experts)
        packed = [_packed(base, name, kind) for name in group]  # [E, out, bytes a row] each
        of_experts = ([(type_name, data[expert]) for type_name, data in packed] for expert in experts)
        return tuple(Linear(pack(of_expert, width), None, outputs) for of_expert in of_experts)
    bias = _fuse_biases(base, group, outputs)
    if kind != "dense":
        matrices = [_packed(base, name, kind) for name in group]
        rows_of = zip(matrices, outputs, strict=True)
        return (
            Linear(
                pack([(name, data.reshape(out, -1)) for (name, data), out in rows_of], width), bias, outputs
            ),
        )
    if len(group) == 1:
        return (Linear(finite(base, group[0]).reshape(shapes[0]), bias, outputs),)
    fused = np.empty((sum(outputs), width), dtype=np.float32)
    for name, rows in zip(group, _split(fused, outputs), strict=True):
        rows[:] = finite(base, name)
    return (Linear(fused, bias, outputs),)


def _packed(base: BaseModel, name: str, kind: Kind) -> tuple[str, HostArray]:
    """Return a weight's type and bytes for a device."""
    return stored_bytes(base, name) if kind == "quantised" else half_bytes(finite(base, name))


def checked(linear: Linear, base: BaseModel, group: LinearGroup) -> Linear:
    """Return it; what came to a device as it was stored is looked at there, where that costs the least."""
    if isinstance(linear.weight, PackedWeight) and not linear.weight.is_finite():
        for name in group:
            finite(base, name)  # says which it is
    return linear


def _matrix_shape(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the shape as a matrix's: files may hold one of a single row as a vector."""
    return shape if len(shape) > 1 else (1, *shape)


def _fuse_biases(base: BaseModel, group: LinearGroup, outputs: tuple[int, ...]) -> HostArray | None:
    """Put the biases of a group into one column, with zeros where a weight has none; None without any."""
    biases = [f"{name.removesuffix('.weight')}.bias" for name in group]
    if not any(name in base.tensors for name in biases):
        return None
    bias = np.zeros((sum(outputs), 1), dtype=np.float32)
    for name, rows in zip(biases, _split(bias, outputs), strict=True):
        if name in base.tensors:
            rows[:, 0] = finite(base, name)
    return bias


def finite(base: BaseModel, name: str) -> HostArray:
    """Return one tensor, refused where it holds a value that is not finite."""
    tensor = base.dense(name)
    if not np.isfinite(tensor).all():
        raise FormatError(
            "it holds NaN or infinite values", path=base.path, where=name, remedy="Get the file again"
        )
    return tensor


def bias_of(base: BaseModel, name: str) -> HostArray | None:
    """Return the bias of a weight as ``[out, 1]``, or None."""
    bias = f"{name.removesuffix('.weight')}.bias"
    return finite(base, bias)[:, None] if bias in base.tensors else None


def _split(array: Array, counts: tuple[int, ...]) -> Iterator[Array]:
    """Cut an array into runs of rows; each is a view."""
    start = 0
    for count in counts:
        yield array[start : start + count]
        start += count
