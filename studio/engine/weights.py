"""The weights of an open base: the rows of a group fused on the device, or each weight as in its file."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from studio.engine.compiled_numpy import plain_product
from studio.engine.linear import Linear, bias_of, checked, finite, fuse
from studio.engine.model import EMBEDDING, HEAD, LinearGroup, Model
from studio.engine.packed_weight import PackedWeight
from studio.engine.residency import check_memory, kinds_to_try
from studio.engine.stored import StoredWeight
from studio.errors import EngineError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.compiled_numpy import Multiply
    from studio.engine.residency import Kind, Residency


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

    def apply(self, columns: Array, multiply: Multiply = plain_product) -> tuple[Array, ...]:
        """Multiply: ``[in, C]`` to one ``[out_i, C]`` for each weight of the group."""
        products = tuple(weight.matmul(columns, multiply) for weight in self.weights)
        for product, bias in zip(products, self.biases, strict=True):
            if bias is not None:
                product += bias
        return products

    def apply_transposed(self, columns: Sequence[Array], multiply: Multiply = plain_product) -> Array:
        """Multiply one ``[out_i, C]`` for each weight of the group by the transposed weights: ``[in, C]``."""
        total = None
        for weight, part in zip(self.weights, columns, strict=True):
            total = weight.matmul_transposed(part, multiply, total)
        return total


@dataclass(frozen=True)
class Weights:
    """All weights of one base.

    Attributes
    ----------
    embedding
        float32 ``[V, width]``, or a `PackedWeight` on a device, or as in the file.
    linears
        By group. A base without a head of its own has the embedding there.
    experts
        By group, the parts of each expert, where the weights are ``(E, out, in)``.
    vectors
        float32 ``[D]`` each, by name.
    kind
        How the weights lie in memory.
    """

    embedding: Array | StoredWeight
    linears: dict[LinearGroup, Linear | StoredLinear]
    experts: dict[LinearGroup, tuple[Linear | StoredLinear, ...]]
    vectors: dict[str, Array]
    kind: Kind

    @classmethod
    def load(cls, base: BaseModel, model: Model, backend: Backend, residency: Residency = "dense") -> Weights:
        """Bring every tensor of the model to the device; with `auto`, smaller where the memory runs out."""
        kinds = backend.run(lambda: kinds_to_try(base, model, backend, residency))
        for kind in kinds:
            try:
                return backend.run(partial(cls._load, base, model, backend, kind))
            except EngineError as error:
                if kind == kinds[-1] or not isinstance(error.__cause__, MemoryError):
                    raise
        raise AssertionError("there is a kind to try")

    @classmethod
    def _load(cls, base: BaseModel, model: Model, backend: Backend, kind: Kind) -> Weights:
        check_memory(base, backend, kind)
        if kind == "quantised" and backend.name == "NumPy":
            return cls._load_stored(base, model)
        return cls._load_fused(base, model, backend, kind)

    @classmethod
    def _load_stored(cls, base: BaseModel, model: Model) -> Weights:
        """Read every linear weight as it is stored."""
        embedding = StoredWeight.read(base, EMBEDDING)
        linears: dict[LinearGroup, Linear | StoredLinear] = {}
        experts: dict[LinearGroup, tuple[Linear | StoredLinear, ...]] = {}
        for group in model.linear_groups:
            if group == (HEAD,) and HEAD not in base.tensors:
                linears[group] = StoredLinear((embedding,), (None,))
            elif len(base.tensors[group[0]].shape) == 3:
                by_expert = zip(*(StoredWeight.read_experts(base, name) for name in group), strict=True)
                experts[group] = tuple(StoredLinear(parts, (None,) * len(group)) for parts in by_expert)
            else:
                stored = tuple(StoredWeight.read(base, name) for name in group)
                linears[group] = StoredLinear(stored, tuple(bias_of(base, name) for name in group))
        vectors = {name: finite(base, name) for name in model.vectors}
        return cls(embedding, linears, experts, vectors, "quantised")

    @classmethod
    def _load_fused(cls, base: BaseModel, model: Model, backend: Backend, kind: Kind) -> Weights:
        """Read every tensor of the model, several at once, and bring them to the device."""
        tied = HEAD not in base.tensors
        groups = [group for group in model.linear_groups if not (tied and group == (HEAD,))]
        groups.insert(0, (EMBEDDING,))
        linears: dict[LinearGroup, Linear | StoredLinear] = {}
        experts: dict[LinearGroup, tuple[Linear | StoredLinear, ...]] = {}
        with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
            fused = pool.map(lambda group: fuse(base, group, kind), groups)
            for group, parts in zip(groups, fused, strict=True):
                # here, since one thread alone may talk to a device
                loaded = tuple(checked(part.on(backend), base, group) for part in parts)
                if len(base.tensors[group[0]].shape) == 3:
                    experts[group] = loaded
                else:
                    (linears[group],) = loaded
        first = linears.pop((EMBEDDING,))
        assert isinstance(first, Linear)
        embedding = first.weight
        if tied:
            linears[(HEAD,)] = Linear(embedding, None, (embedding.shape[0],))
        vectors = {name: backend.to_device(finite(base, name)) for name in model.vectors}
        return cls(embedding, linears, experts, vectors, kind)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        linears = (*self.linears.values(), *(part for parts in self.experts.values() for part in parts))
        size = int(self.embedding.nbytes)
        for linear in linears:
            parts = linear.weights if isinstance(linear, StoredLinear) else (linear.weight,)
            size += sum(int(part.nbytes) for part in parts if part is not self.embedding)
        return size

    def embed(self, tokens: HostArray, backend: Backend) -> Array:
        """Look tokens ``[T]`` up in the embedding: ``[T, width]``."""
        if isinstance(self.embedding, StoredWeight):
            return self.embedding.rows(tokens)
        on_device = backend.to_device(tokens)
        if isinstance(self.embedding, PackedWeight):
            return self.embedding.rows(on_device)
        return self.embedding[on_device]

    def biases(self) -> dict[str, Array]:
        """Return the bias ``[out, 1]`` of every linear weight that has one."""
        return {
            name: bias
            for group, linear in self.linears.items()
            for name, bias in zip(group, linear.biases, strict=True)
            if bias is not None
        }

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
