"""All attached adapters, packed for the device: one pair of products a module, however many there are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import BlendState, DeltaAdapter, FloatArray, LowRankAdapter, LowRankFactors, ScaledDelta
from studio.engine.low_rank import pack_factors
from studio.engine.model import EMBEDDING, LinearGroup
from studio.errors import EngineError, MismatchError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.weights import Weights

Signature = tuple[tuple[str, int, int], ...]
"""Key, version and identity of every packed adapter: the pack is stale when this changes, and only then."""


@dataclass(frozen=True)
class PackedMember:
    """The B factors of one weight of a group.

    Attributes
    ----------
    index
        Which weight of the group it is.
    b
        float32 ``[out, R_m]``, or ``[E, out, R_m]`` for experts: the adapters' side by side.
    ranks
        Which of the group's R ranks are its R_m.
    number
        Its place among all members of the bank.
    """

    index: int
    b: Array
    ranks: slice
    number: int


@dataclass(frozen=True)
class PackedGroup:
    """The factors of one group of weights.

    Attributes
    ----------
    a
        float32 ``[R, in]``, or ``[E, R, in]`` for experts: the A factors of all its weights and all adapters,
        since they share the input.
    ranks
        Which of the bank's ranks are its R.
    members
        The weights of the group that any adapter acts on.
    """

    a: Array
    ranks: slice
    members: tuple[PackedMember, ...]


class AdapterBank:
    """The packed adapters of a base.

    Parameters
    ----------
    adapters
        By key.
    weights
        The base's, which say what is multiplied together; modules that it lacks are passed over.
    backend
        Where to pack them.

    Attributes
    ----------
    scaling
        What the adapter of each rank itself scales by, ``[R of all groups]``.
    channel
        Which adapter each rank belongs to.
    """

    def __init__(
        self,
        adapters: Mapping[str, DeltaAdapter],
        weights: Weights,
        backend: Backend,
    ) -> None:
        self.adapters = dict(adapters)
        self.backend = backend
        self.signature = signature_of(adapters)
        self.packed: dict[LinearGroup, PackedGroup] = {}
        self.opaque: dict[str, list[tuple[int, DeltaAdapter]]] = {}
        scalings: list[FloatArray] = []
        channels: list[np.ndarray[Any, np.dtype[np.intp]]] = []
        rows: list[np.ndarray[Any, np.dtype[np.intp]]] = []
        self._rows: dict[str, int] = {}  # every module that an adapter acts on, and its row among the scales
        starts: list[int] = []
        total = 0
        shapes = weights.module_shapes()
        by_channel: list[Mapping[str, LowRankFactors]] = []
        for channel, adapter in enumerate(self.adapters.values()):
            _check_shapes(adapter, shapes)
            by_channel.append(adapter.factors if isinstance(adapter, LowRankAdapter) else {})
            if not isinstance(adapter, LowRankAdapter):
                for module in adapter.modules:
                    self.opaque.setdefault(module, []).append((channel, adapter))
        self.biases = weights.biases() if self.opaque else {}
        for group in (*weights.linears, *weights.experts, (EMBEDDING,)):
            begin, a, members = total, [], []
            for index, module in enumerate(group):
                factors = pack_factors([factors_of.get(module) for factors_of in by_channel])
                if factors is None:
                    continue
                count = len(factors.scaling)
                ranks = slice(total - begin, total - begin + count)
                members.append(PackedMember(index, backend.to_device(factors.b), ranks, len(starts)))
                a.append(factors.a)
                scalings.append(factors.scaling)
                channels.append(factors.channel)
                row = self._rows.setdefault(module, len(self._rows))
                rows.append(np.full(count, row, dtype=np.intp))
                starts.append(total)
                total += count
            if members:
                joined = backend.to_device(a[0] if len(a) == 1 else np.concatenate(a, axis=-2))
                self.packed[group] = PackedGroup(joined, slice(begin, total), tuple(members))
        self.scaling = np.concatenate([np.empty(0, np.float32), *scalings])  # [R of all groups]
        self.channel = np.concatenate([np.empty(0, np.intp), *channels])
        self._row = np.concatenate([np.empty(0, np.intp), *rows])
        self._starts = np.array(starts, dtype=np.intp)
        for module in self.opaque:
            self._rows.setdefault(module, len(self._rows))

    @property
    def ranks(self) -> int:
        """How many ranks all its groups have."""
        return len(self.scaling)

    def bind(self, states: Sequence[BlendState], *, silent: bool = False) -> BoundBlends | None:
        """Set the scales and gains of N blends: all that a move costs. None where none hears any adapter.

        With `silent`, adapters at scale 0 are bound as well.

        Raises
        ------
        EngineError
            For a key that is not attached, or an adapter that has changed since the blend was made.
        """
        keys = list(self.adapters)
        scales = np.zeros((len(keys), len(self._rows), len(states)), dtype=np.float32)
        for column, state in enumerate(states):
            for heard in state.channels:
                if heard.key not in self.adapters:
                    raise EngineError(
                        "the blend names an adapter that is not attached",
                        where=heard.key,
                        remedy="Attach it first",
                    )
                if heard.version != self.adapters[heard.key].version:
                    raise EngineError(
                        "the adapter has changed since the blend was made",
                        where=heard.key,
                        remedy="Ask again",
                    )
                channel = keys.index(heard.key)
                scales[channel, :, column] = heard.scale
                for module, _ in heard.gains.by_module:
                    if module in self._rows:
                        scales[channel, self._rows[module], column] = heard.scale_of(module)
        if not (scales.any() or silent):
            return None
        by_rank = self.scaling[:, None] * scales[self.channel, self._row]  # [R, N]
        audible = np.zeros(len(self._starts), dtype=bool)
        if len(self._starts):
            audible = np.logical_or.reduceat(by_rank.any(axis=1), self._starts)
        opaque = {module: scales[:, self._rows[module]] for module in self.opaque}
        return BoundBlends(self, opaque, self.backend.to_device(by_rank[:, :, None]), audible)


@dataclass(frozen=True)
class BoundBlends:
    """A bank with the scales of N blends.

    Attributes
    ----------
    bank
        The packed factors.
    opaque_scales
        float32 ``[channels, N]`` on the host, for each module that adapters without factors act on.
    rank_scales
        float32 ``[R of all groups, N, 1]`` on the device: the adapter's own scaling times its channel's scale
        and its gain in the module.
    audible
        ``[members]``: whether any scale of the member is not 0.
    """

    bank: AdapterBank
    opaque_scales: Mapping[str, FloatArray]
    rank_scales: Array
    audible: np.ndarray[Any, np.dtype[np.bool_]]

    def add(self, group: LinearGroup, inputs: Array, outputs: Sequence[Array]) -> None:
        """Add sum_i s_i B_i A_i x to a group's outputs ``[out, N * T]``, in place; x is ``[in, N * T]``."""
        if self.bank.opaque:  # first, while the outputs are the base's own
            for module, output in zip(group, outputs, strict=True):
                self._add_opaque(module, inputs, output)
        packed = self.bank.packed.get(group)
        if packed is not None:
            members = self._audible_members(packed)
            if members:
                hidden = self._scaled(packed, packed.a @ inputs)  # [R, in] @ [in, N * T] -> [R, N * T]
                for member in members:
                    output = outputs[member.index]
                    output += member.b @ hidden[member.ranks]  # [out, R_m] @ [R_m, N * T] -> [out, N * T]

    def add_to_expert(
        self, group: LinearGroup, expert: int, inputs: Array, outputs: Sequence[Array], blends: HostArray
    ) -> None:
        """Add one expert's delta to outputs ``[out, C]``, in place; column c is of the blend blends[c]."""
        packed = self.bank.packed.get(group)
        members = [] if packed is None else self._audible_members(packed)
        if packed is None or not members:
            return
        by_blend = self.rank_scales[packed.ranks, :, 0]  # [R, N]
        scales = by_blend[:, self.bank.backend.to_device(blends)]  # [R, C]
        hidden = (packed.a[expert] @ inputs) * scales  # [R, in] @ [in, C] -> [R, C]
        for member in members:
            output = outputs[member.index]
            output += member.b[expert] @ hidden[member.ranks]  # [out, R_m] @ [R_m, C] -> [out, C]

    def add_to_embedding(self, tokens: Array, embedded: Array) -> None:
        """Add the delta of the tokens ``[N * T]`` to their embedding ``[width, N * T]``, in place.

        Tokens pick rows of W = ``[vocabulary, width]``, and so rows of B A: sum_i s_i A_i^T B_i[token].
        """
        packed = self.bank.packed.get((EMBEDDING,))
        if packed is None or not self.audible[packed.members[0].number]:
            return
        rows = packed.members[0].b[tokens]  # [N * T, R]
        hidden = self._scaled(packed, rows.T)  # [R, N * T]
        embedded += packed.a.T @ hidden

    def _audible_members(self, packed: PackedGroup) -> list[PackedMember]:
        return [member for member in packed.members if self.audible[member.number]]

    def _scaled(self, packed: PackedGroup, hidden: Array) -> Array:
        """Scale ``[R, N * T]`` by rank and blend."""
        scales = self.rank_scales[packed.ranks]  # [R, N, 1]
        return (hidden.reshape(scales.shape[0], scales.shape[1], -1) * scales).reshape(hidden.shape)

    def _add_opaque(self, module: str, inputs: Array, output: Array) -> None:
        """Ask the adapters that show no factors for their deltas, on the host and one position a row."""
        backend = self.bank.backend
        adapters = self.bank.opaque.get(module, ())
        if not adapters:
            return
        blends = self.rank_scales.shape[1]
        bias = self.bank.biases.get(module)
        own = output.copy() if bias is None else output - bias  # W x, before any delta is added
        by_blend, products, outputs = (
            array.reshape(array.shape[0], blends, -1) for array in (inputs, own, output)
        )
        for channel, adapter in adapters:
            for blend in range(blends):
                scale = float(self.opaque_scales[module][channel, blend])
                if scale == 0:
                    continue
                rows = _rows(backend, by_blend[:, blend])  # [T, in]
                if isinstance(adapter, ScaledDelta):
                    delta = adapter.delta_at(module, rows, scale, _rows(backend, products[:, blend]))
                else:
                    delta = adapter.delta(module, rows)
                if delta is None:
                    continue
                expected = (rows.shape[0], output.shape[0])
                if np.shape(delta) != expected:
                    raise MismatchError(
                        f"{adapter.name!r} gave a delta of the shape {np.shape(delta)}, not {expected}",
                        where=module,
                    )
                columns = np.ascontiguousarray(np.asarray(delta, dtype=np.float32).T)
                factor = 1.0 if isinstance(adapter, ScaledDelta) else scale
                outputs[:, blend] += factor * backend.to_device(columns)


def _rows(backend: Backend, columns: Array) -> FloatArray:
    """Return device columns ``[in, T]`` as host rows ``[T, in]``."""
    return np.ascontiguousarray(backend.to_host(columns).T)


def signature_of(adapters: Mapping[str, DeltaAdapter]) -> Signature:
    """Return what a bank of these adapters would have as its signature."""
    return tuple((key, adapter.version, id(adapter)) for key, adapter in adapters.items())


def _check_shapes(adapter: DeltaAdapter, shapes: Mapping[str, tuple[int, ...]]) -> None:
    """Refuse factors that do not fit the base's weights; modules that the base lacks are passed over."""
    if not isinstance(adapter, LowRankAdapter):
        for module in adapter.modules:
            if module == EMBEDDING or len(shapes.get(module, ())) == 3:
                part = "the embedding" if module == EMBEDDING else "experts"
                raise MismatchError(
                    f"{adapter.name!r} acts on {part}, which only low-rank factors can", where=module
                )
        return
    for module, factors in adapter.factors.items():
        if module not in shapes:
            continue
        *experts, out, inputs = shapes[module]
        rank = factors.b.shape[-1]
        if factors.a.shape != (*experts, rank, inputs) or factors.b.shape != (*experts, out, rank):
            raise MismatchError(
                f"{adapter.name!r} has A {factors.a.shape} and B {factors.b.shape}, "
                f"which do not fit a weight of (out, in) = {shapes[module]}",
                where=module,
                remedy="It was made for another base",
            )
