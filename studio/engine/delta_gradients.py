"""The deltas of one blend in a pass with gradients: they are applied as always, and collect their own."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import NO_DROPOUT, FactorGradients
from studio.errors import EngineError, MismatchError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BlendState, Dropout
    from studio.engine.adapter_bank import AdapterBank, PackedGroup, PackedMember
    from studio.engine.backend import Array
    from studio.engine.model import LinearGroup

Place = tuple["LinearGroup", "int | None"]
"""A group of weights, and which expert's part of them."""


class DeltaGradients:
    """Sums up the gradients of a blend's deltas over any number of passes.

    Parameters
    ----------
    bank
        The packed adapters.
    state
        The blend; its channels count even at scale 0, where a scale has a gradient as anywhere else.
    train
        The key of the adapter whose factors have gradients; None where those of the scales are all.
    dropout
        For that adapter.

    Raises
    ------
    MismatchError
        The blend hears an adapter that shows no factors.
    EngineError
        The adapter to train is not in the blend.
    """

    def __init__(
        self, bank: AdapterBank, state: BlendState, train: str | None = None, dropout: Dropout = NO_DROPOUT
    ) -> None:
        self.bank = bank
        self.state = state
        self.dropout = dropout
        self.passes = 0
        heard = {channel.key for channel in state.channels}
        keys = list(bank.adapters)
        for number, adapter in sorted({pair for pairs in bank.opaque.values() for pair in pairs}, key=id):
            if keys[number] in heard:
                raise MismatchError(
                    f"{adapter.name!r} shows no factors, so that gradients cannot pass through it",
                    remedy="Mute it, or extract a low-rank adapter from it first",
                )
        if train is not None and train not in heard:
            raise EngineError("the adapter to train is not in the blend", where=train, remedy="Unmute it")
        self._heard = np.array([key in heard for key in keys], dtype=bool)
        self._trained = None if train is None else keys.index(train)
        bound = bank.bind([state], silent=True)
        self._rank_scales = None if bound is None else bound.rank_scales[:, 0]  # [R of all groups, 1]
        self._deltas: dict[Place, GroupDelta | None] = {}

    def of_group(self, group: LinearGroup, expert: int | None = None) -> GroupDelta | None:
        """Return what acts on a group; None where nothing of the blend does."""
        place = (group, expert)
        if place not in self._deltas:
            packed = self.bank.packed.get(group)
            self._deltas[place] = None if packed is None else self._bind(packed, place)
        return self._deltas[place]

    def scales(self) -> dict[str, dict[str, float]]:
        """Return the gradients with respect to each channel's scale in each module."""
        found: dict[str, dict[str, float]] = {channel.key: {} for channel in self.state.channels}
        keys = list(self.bank.adapters)
        for (group, _), delta in self._deltas.items():
            if delta is None or delta.of_scales is None:
                continue
            by_rank = self.bank.backend.to_host(delta.of_scales) * self.bank.scaling[delta.packed.ranks]
            for member in delta.members:
                channels = self.bank.channel[delta.packed.ranks][member.ranks]
                for number in np.unique(channels[self._heard[channels]]):
                    of_module = found[keys[number]]
                    value = float(by_rank[member.ranks][channels == number].sum())
                    of_module[group[member.index]] = of_module.get(group[member.index], 0.0) + value
        return found

    def factors(self) -> dict[str, FactorGradients]:
        """Return the gradients with respect to the factors of the trained adapter, by module."""
        found: dict[str, FactorGradients] = {}
        for (group, expert), delta in self._deltas.items():
            if delta is None or delta.of_a is None:
                continue
            of_a = self.bank.backend.to_host(delta.of_a)
            for member in delta.members:
                if member.number in delta.of_b:
                    module, rows = group[member.index], delta.trained_rows[member.number]
                    of_b = self.bank.backend.to_host(delta.of_b[member.number])
                    own = FactorGradients(of_a[rows], of_b)
                    if expert is None:
                        found[module] = own
                    else:
                        whole = found.setdefault(module, self._of_experts(delta.packed, member, own))
                        whole.a[expert], whole.b[expert] = own.a, own.b
        return found

    def _of_experts(self, packed: PackedGroup, member: PackedMember, one: FactorGradients) -> FactorGradients:
        """Make room for all experts: those that no position went through have no gradient."""
        count = packed.a.shape[0]
        return FactorGradients(
            np.zeros((count, *one.a.shape), np.float32), np.zeros((count, *one.b.shape), np.float32)
        )

    def _bind(self, packed: PackedGroup, place: Place) -> GroupDelta | None:
        channels = self.bank.channel[packed.ranks]
        members = tuple(member for member in packed.members if self._heard[channels[member.ranks]].any())
        if not members or self._rank_scales is None:
            return None
        trained: dict[int, slice] = {}
        if self._trained is not None:
            for member in members:
                rows = np.flatnonzero(channels[member.ranks] == self._trained)
                if len(rows):  # an adapter's ranks are side by side
                    trained[member.number] = slice(int(rows[0]), int(rows[-1]) + 1)
        return GroupDelta(self, packed, place, members, self._rank_scales[packed.ranks], trained)


class GroupDelta:
    """What a blend adds to one group of weights, or to one expert's part of it.

    Attributes
    ----------
    of_scales
        The gradient by rank, ``[R]``.
    of_a
        That of A in the trained ranks, ``[R_t, in]``.
    of_b
        That of B in the trained ranks of each member, ``[out, R_tm]``, by the member's number.
    """

    def __init__(
        self,
        owner: DeltaGradients,
        packed: PackedGroup,
        place: Place,
        members: Sequence[PackedMember],
        rank_scales: Array,
        trained: dict[int, slice],
    ) -> None:
        self.owner = owner
        self.packed = packed
        self.place = place
        self.members = members
        self.rank_scales = rank_scales  # [R, 1]
        self.trained = trained  # which of a member's ranks, by its number
        expert = place[1]
        self.a = packed.a if expert is None else packed.a[expert]  # [R, in]
        self.b = {
            member.number: member.b if expert is None else member.b[expert] for member in members
        }  # [out, R_m]
        self.of_scales: Array | None = None
        self.of_a: Array | None = None
        self.of_b: dict[int, Array] = {}

    @property
    def xp(self) -> Any:
        """The array module."""
        return self.owner.bank.backend.xp

    @cached_property
    def trained_ranks(self) -> slice | Array:
        """Which of the group's ranks are trained: a slice where they are neighbours."""
        ranks = [
            member.ranks.start + row
            for member in self.members
            if member.number in self.trained
            for row in range(self.trained[member.number].start, self.trained[member.number].stop)
        ]
        if ranks == list(range(ranks[0], ranks[-1] + 1)):
            return slice(ranks[0], ranks[-1] + 1)
        return self.owner.bank.backend.to_device(np.array(ranks))

    @cached_property
    def trained_rows(self) -> dict[int, slice]:
        """Which rows of `of_a` are a member's."""
        rows, start = {}, 0
        for member in self.members:
            if member.number in self.trained:
                count = self.trained[member.number].stop - self.trained[member.number].start
                rows[member.number] = slice(start, start + count)
                start += count
        return rows

    def apply(self, inputs: Array, outputs: Sequence[Array]) -> AppliedDelta:
        """Add the deltas of inputs ``[in, C]`` to outputs ``[out, C]``, in place."""
        hidden = self.a @ inputs  # [R, C]
        kept = None
        if self.trained and self.owner.dropout.rate:
            kept = self._kept(inputs.shape)
            hidden[self.trained_ranks] = self.a[self.trained_ranks] @ (inputs * kept)
        scaled = hidden * self.rank_scales
        for member in self.members:
            output = outputs[member.index]
            output += self.b[member.number] @ scaled[member.ranks]  # [out, R_m] @ [R_m, C]
        return AppliedDelta(self, inputs, hidden, scaled, kept)

    def add_to_embedding(self, tokens: Array, embedded: Array) -> None:
        """Add the delta of tokens ``[C]`` to their embedding ``[width, C]``, in place."""
        (member,) = self.members
        embedded += self.a.T @ (self.b[member.number][tokens].T * self.rank_scales)

    def collect_embedding(self, tokens: Array, gradient: Array) -> None:
        """Collect the gradients of `add_to_embedding` from that of its result, ``[width, C]``."""
        (member,) = self.members
        hidden = self.b[member.number][tokens].T  # [R, C]
        of_scaled = self.a @ gradient  # [R, C]
        self._add_of_scales((of_scaled * hidden).sum(axis=1))
        if self.trained:
            rows = self.trained[member.number]
            self._add_of_a((hidden * self.rank_scales)[rows] @ gradient.T)
            of_b = self.xp.zeros_like(self.b[member.number][:, rows])
            self.xp.add.at(of_b, tokens, ((of_scaled * self.rank_scales)[rows]).T)
            self._add_of_b(member, of_b)

    def collect(self, applied: AppliedDelta, gradients: Sequence[Array]) -> Array:
        """Collect gradients from those of the outputs ``[out, C]``; return that of A x, ``[R, C]``."""
        of_scaled = self.xp.zeros_like(applied.scaled)
        for member in self.members:
            of_scaled[member.ranks] = self.b[member.number].T @ gradients[member.index]
        self._add_of_scales((of_scaled * applied.hidden).sum(axis=1))
        of_hidden = of_scaled * self.rank_scales
        if self.trained:
            seen = applied.inputs if applied.kept is None else applied.inputs * applied.kept
            self._add_of_a(of_hidden[self.trained_ranks] @ seen.T)  # [R_t, C] @ [C, in]
            for member in self.members:
                if member.number in self.trained:
                    rows = applied.scaled[member.ranks][self.trained[member.number]]
                    self._add_of_b(member, gradients[member.index] @ rows.T)  # [out, C] @ [C, R_tm]
        return of_hidden

    def _kept(self, shape: tuple[int, ...]) -> Array:
        """Choose which inputs are kept, as 1 / (1 - rate) or 0: alike for the same seed, place and pass."""
        dropout, (group, expert) = self.owner.dropout, self.place
        place = zlib.crc32(f"{group} {expert}".encode())
        random = np.random.default_rng([dropout.seed, self.owner.passes, place])
        kept = (random.random(shape, dtype=np.float32) >= dropout.rate) / np.float32(1 - dropout.rate)
        return self.owner.bank.backend.to_device(kept.astype(np.float32))

    def _add_of_scales(self, found: Array) -> None:
        self.of_scales = found if self.of_scales is None else self.of_scales + found

    def _add_of_a(self, found: Array) -> None:
        self.of_a = found if self.of_a is None else self.of_a + found

    def _add_of_b(self, member: PackedMember, found: Array) -> None:
        before = self.of_b.get(member.number)
        self.of_b[member.number] = found if before is None else before + found


@dataclass(frozen=True)
class AppliedDelta:
    """A `GroupDelta` as it was applied once: its inputs ``[in, C]``, A x ``[R, C]``, and that scaled."""

    delta: GroupDelta
    inputs: Array
    hidden: Array
    scaled: Array
    kept: Array | None

    def collect(self, gradients: Sequence[Array], inputs_wanted: bool) -> Array | None:
        """Collect gradients from those of the outputs; return that of the inputs ``[in, C]``, if wanted."""
        delta = self.delta
        of_hidden = delta.collect(self, gradients)
        if not inputs_wanted:
            return None
        if self.kept is None:
            return delta.a.T @ of_hidden
        ranks = delta.trained_ranks
        through = delta.a[ranks].T @ of_hidden[ranks]
        of_hidden[ranks] = 0
        return delta.a.T @ of_hidden + through * self.kept
