"""The weights of an open base: float32 on the device with the rows of a group fused, or as in their file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from studio.engine.memory import available_memory
from studio.engine.model import EMBEDDING, HEAD, LinearGroup, Model
from studio.engine.stored import StoredWeight
from studio.errors import EngineError, FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array, Backend, HostArray


Residency: TypeAlias = Literal["auto", "dense", "quantised"]
"""How weights lie in memory: float32, or as small as in the file, or whichever fits."""

DENSE_SHARE = 0.5
"""How much of the free memory dense weights may take before `auto` keeps them quantised."""


@dataclass(frozen=True)
class Linear:
    """The fused weights of one group.

    Attributes
    ----------
    weight
        float32 ``[out, in]``, the rows of the group's weights one after the other.
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
    def nbytes(self) -> int:
        """Size in memory."""
        return int(self.weight.nbytes)

    def on(self, backend: Backend) -> Linear:
        """Bring host arrays to the device."""
        bias = None if self.bias is None else backend.to_device(self.bias)
        return Linear(backend.to_device(self.weight), bias, self.outputs)

    def apply(self, columns: Array) -> tuple[Array, ...]:
        """Multiply: ``[in, C]`` to one ``[out_i, C]`` for each weight of the group."""
        product = self.weight @ columns  # [out, in] @ [in, C] -> [out, C]
        if self.bias is not None:
            product += self.bias
        return tuple(_split(product, self.outputs))


@dataclass(frozen=True)
class StoredLinear:
    """The weights of one group as small as in their file: what `Linear` is for dense ones.

    Attributes
    ----------
    weights
        One by one.
    biases
        float32 ``[out, 1]`` each, or None.
    """

    weights: tuple[StoredWeight, ...]
    biases: tuple[HostArray | None, ...]

    @property
    def outputs(self) -> tuple[int, ...]:
        """How many rows each weight has."""
        return tuple(weight.shape[0] for weight in self.weights)

    @property
    def inputs(self) -> int:
        """The length of an input."""
        return self.weights[0].shape[1]

    def apply(self, columns: Array) -> tuple[Array, ...]:
        """Multiply: ``[in, C]`` to one ``[out_i, C]`` for each weight of the group."""
        products = tuple(weight.matmul(columns) for weight in self.weights)
        for product, bias in zip(products, self.biases, strict=True):
            if bias is not None:
                product += bias
        return products


@dataclass(frozen=True)
class Weights:
    """All weights of one base.

    Attributes
    ----------
    embedding
        float32 ``[V, width]``, or as in the file.
    linears
        By group. A base without a head of its own has the embedding there.
    experts
        By group, the parts of each expert, where the weights are ``(E, out, in)``.
    vectors
        float32 ``[D]`` each, by name.
    """

    embedding: Array | StoredWeight
    linears: dict[LinearGroup, Linear | StoredLinear]
    experts: dict[LinearGroup, tuple[Linear, ...]]
    vectors: dict[str, Array]

    @classmethod
    def load(cls, base: BaseModel, model: Model, backend: Backend, residency: Residency = "dense") -> Weights:
        """Bring every tensor of the model to the device, as float32 or, on the CPU, as it is stored."""
        has_experts = any(len(info.shape) == 3 for info in base.tensors.values())
        if residency == "quantised" and has_experts:
            raise EngineError(
                "experts are held in float32 alone", remedy="Choose dense weights", path=base.path
            )
        stored = residency == "auto" and not has_experts and not _fits_densely(base, backend)
        if stored or residency == "quantised":
            return cls._load_stored(base, model, backend)
        return cls._load_dense(base, model, backend)

    @classmethod
    def _load_stored(cls, base: BaseModel, model: Model, backend: Backend) -> Weights:
        """Read every linear weight as it is stored."""
        if backend.name != "NumPy":
            raise EngineError(
                f"{backend.name} takes no quantised weights", remedy="Choose dense weights, or the CPU"
            )
        _check_memory(base, backend, sum(info.nbytes for info in base.tensors.values()), "as stored")
        embedding = StoredWeight(base, EMBEDDING)
        linears: dict[LinearGroup, Linear | StoredLinear] = {}
        for group in model.linear_groups:
            tied = group == (HEAD,) and HEAD not in base.tensors
            stored = (embedding,) if tied else tuple(StoredWeight(base, name) for name in group)
            linears[group] = StoredLinear(stored, tuple(_bias(base, name) for name in group))
        return cls(embedding, linears, {}, {name: _dense(base, name) for name in model.vectors})

    @classmethod
    def _load_dense(cls, base: BaseModel, model: Model, backend: Backend) -> Weights:
        """Dequantise every tensor of the model, several at once, and bring them to the device."""
        _check_memory(base, backend, _dense_bytes(base), "in float32")
        embedding = backend.to_device(_dense(base, EMBEDDING))
        tied = HEAD not in base.tensors
        groups = [group for group in model.linear_groups if not (tied and group == (HEAD,))]
        linears: dict[LinearGroup, Linear | StoredLinear] = {}
        experts: dict[LinearGroup, tuple[Linear, ...]] = {}
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            for group, parts in zip(groups, pool.map(lambda group: _fuse(base, group), groups), strict=True):
                # here, since one thread alone may talk to a device
                loaded = tuple(part.on(backend) for part in parts)
                if len(base.tensors[group[0]].shape) == 3:
                    experts[group] = loaded
                else:
                    (linears[group],) = loaded
        if tied:
            linears[(HEAD,)] = Linear(embedding, None, (embedding.shape[0],))
        vectors = {name: backend.to_device(_dense(base, name)) for name in model.vectors}
        return cls(embedding, linears, experts, vectors)

    @property
    def stored(self) -> bool:
        """Whether the weights lie in memory as in their file."""
        return isinstance(self.embedding, StoredWeight)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        size = int(self.embedding.nbytes)
        size += sum(part.nbytes for parts in self.experts.values() for part in parts)
        for linear in self.linears.values():
            parts = linear.weights if isinstance(linear, StoredLinear) else (linear.weight,)
            size += sum(int(part.nbytes) for part in parts if part is not self.embedding)
        return size

    def embed(self, tokens: Sequence[int], backend: Backend) -> Array:
        """Look tokens up in the embedding: ``[T, width]``."""
        ids = np.asarray(tokens, dtype=np.int64)
        if isinstance(self.embedding, StoredWeight):
            return self.embedding.rows(ids)
        return self.embedding[backend.to_device(ids)]

    def module_shapes(self) -> dict[str, tuple[int, ...]]:
        """Return ``(out, in)`` or ``(E, out, in)`` of every weight that an adapter can act on."""
        shapes: dict[str, tuple[int, ...]] = {
            name: (out, linear.inputs)
            for group, linear in self.linears.items()
            for name, out in zip(group, linear.outputs, strict=True)
        }
        shapes |= {
            name: (len(parts), out, parts[0].inputs)
            for group, parts in self.experts.items()
            for name, out in zip(group, parts[0].outputs, strict=True)
        }
        vocabulary, width = self.embedding.shape
        return shapes | {EMBEDDING: (int(vocabulary), int(width))}


def _fuse(base: BaseModel, group: LinearGroup) -> tuple[Linear, ...]:
    """Dequantise the weights of a group into one array, or into one for each expert."""
    shapes = [_matrix_shape(base.tensors[name].shape) for name in group]
    outputs = tuple(shape[-2] for shape in shapes)
    if len(shapes[0]) == 3:
        by_expert = np.concatenate([_dense(base, name) for name in group], axis=1)  # [E, out, in]
        return tuple(Linear(weight, None, outputs) for weight in by_expert)
    fused = np.empty((sum(outputs), shapes[0][1]), dtype=np.float32)
    for name, rows in zip(group, _split(fused, outputs), strict=True):
        rows[:] = _dense(base, name)
    return (Linear(fused, _fuse_biases(base, group, outputs), outputs),)


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
            rows[:, 0] = _dense(base, name)
    return bias


def _dense(base: BaseModel, name: str) -> HostArray:
    """Return one tensor, refused where it holds a value that is not finite."""
    tensor = base.dense(name)
    if not np.isfinite(tensor).all():
        raise FormatError(
            "it holds NaN or infinite values", path=base.path, where=name, remedy="Get the file again"
        )
    return tensor


def _bias(base: BaseModel, name: str) -> HostArray | None:
    """Return the bias of a weight as ``[out, 1]``, or None."""
    bias = f"{name.removesuffix('.weight')}.bias"
    return _dense(base, bias)[:, None] if bias in base.tensors else None


def _split(array: Array, counts: tuple[int, ...]) -> Iterator[Array]:
    """Cut an array into runs of rows; each is a view."""
    start = 0
    for count in counts:
        yield array[start : start + count]
        start += count


def _dense_bytes(base: BaseModel) -> int:
    return 4 * sum(int(np.prod(info.shape, dtype=object)) for info in base.tensors.values())


def _fits_densely(base: BaseModel, backend: Backend) -> bool:
    """Say whether float32 weights leave enough memory to others; a device has no other choice."""
    free = available_memory()
    return backend.name != "NumPy" or free is None or _dense_bytes(base) <= DENSE_SHARE * free


def _check_memory(base: BaseModel, backend: Backend, needed: int, how: str) -> None:
    """Refuse a base whose weights cannot fit, before the system ends the program for it."""
    limit = backend.memory_limit()
    if limit is not None and needed > limit:
        raise EngineError(
            f"its weights take {needed / 1e9:.1f} GB {how}, and {backend.name} has {limit / 1e9:.1f} GB",
            path=base.path,
            remedy="Open a smaller base",
        )
