"""What a blend adds to one group of weights in a pass with gradients: it is applied, and collects its own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.adapter_bank import PackedGroup, PackedMember
    from studio.engine.backend import Array, Backend, HostArray
    from studio.engine.compiled_numpy import Multiply
    from studio.engine.gradients.dropped_inputs import DroppedInputs
    from studio.engine.gradients.traced import Traced
    from studio.engine.model import LinearGroup

Place = tuple["LinearGroup", "int | None"]
"""A group of weights, and which expert's part of them."""


class GroupDelta:
    """What a blend adds to one group of weights, or to one expert's part of it.

    Parameters
    ----------
    multiply
        Who multiplies.
    dropped
        What is left out of the inputs in the trained ranks.
    packed
        The factors of all attached adapters.
    place
        Where they act.
    members
        The weights that the blend acts on.
    rank_scales
        ``[R, 1]``: what each rank is multiplied by.
    trained
        Which of a member's ranks are trained, by its number.

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
        backend: Backend,
        multiply: Multiply,
        dropped: DroppedInputs,
        packed: PackedGroup,
        place: Place,
        members: Sequence[PackedMember],
        rank_scales: Array,
        trained: dict[int, slice],
    ) -> None:
        self.dropped = dropped
        self.multiply = multiply
        self._to_device = backend.to_device
        self._xp = backend.xp
        self.packed = packed
        self.place = place
        self.members = members
        self.rank_scales = rank_scales
        self.trained = trained
        expert = place[1]
        self.a = packed.a if expert is None else packed.a[expert]  # [R, in]
        self.b = {
            member.number: member.b if expert is None else member.b[expert] for member in members
        }  # [out, R_m]
        self.of_scales: Array | None = None
        self.of_a: Array | None = None
        self.of_b: dict[int, Array] = {}

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
        return self._to_device(np.array(ranks))

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

    def apply(self, inputs: Traced, outputs: Sequence[Array]) -> AppliedDelta:
        """Add the deltas of inputs ``[in, C]`` to outputs ``[out, C]``, in place."""
        hidden = self.multiply(self.a, inputs.value)  # [R, C]
        kept = None
        if self.trained and self.dropped.are_any:
            kept = self._to_device(self.dropped.kept(self.place, inputs.shape))
            hidden[self.trained_ranks] = self.a[self.trained_ranks] @ self.dropped.without(inputs.value, kept)
        scaled = hidden * self.rank_scales
        for member in self.members:
            b, its = self.b[member.number], scaled[member.ranks]
            self.multiply(b, its, outputs[member.index])  # [out, R_m] @ [R_m, C]
        return AppliedDelta(self, inputs, hidden, kept)

    def add_to_embedding(self, tokens: Array, embedded: Array) -> None:
        """Add the delta of tokens ``[C]`` to their embedding ``[width, C]``, in place."""
        (member,) = self.members
        embedded += self.a.T @ (self.b[member.number][tokens].T * self.rank_scales)

    def collect_embedding(self, tokens: HostArray, gradient: Array) -> None:
        """Collect the gradients of `add_to_embedding` from that of its result, ``[width, C]``."""
        (member,) = self.members
        to_device = self._to_device
        hidden = self.b[member.number][to_device(tokens)].T  # [R, C]
        of_scaled = self.a @ gradient  # [R, C]
        self._add_of_scales((of_scaled * hidden).sum(axis=1))
        if self.trained:
            rows = self.trained[member.number]
            self._add_of_a((hidden * self.rank_scales)[rows] @ gradient.T)
            seen, which = np.unique(tokens, return_inverse=True)
            places = np.zeros((len(seen), len(tokens)), np.float32)  # a token may be there many times
            places[which, np.arange(len(tokens))] = 1
            of_rows = (of_scaled * self.rank_scales)[rows]  # [R_t, C]
            of_b = self._xp.zeros_like(self.b[member.number][:, rows])
            of_b[to_device(seen)] = to_device(places) @ of_rows.T
            self._add_of_b(member, of_b)

    def collect(self, applied: AppliedDelta, gradients: Sequence[Array]) -> Array:
        """Collect gradients from those of the outputs ``[out, C]``; return that of A x, ``[R, C]``."""
        of_scaled = self._xp.zeros_like(applied.hidden)
        for member in self.members:
            of_scaled[member.ranks] = self.multiply(self.b[member.number].T, gradients[member.index])
        self._add_of_scales((of_scaled * applied.hidden).sum(axis=1))
        of_hidden = of_scaled * self.rank_scales
        if self.trained:
            inputs = applied.inputs.value
            seen = inputs if applied.kept is None else self.dropped.without(inputs, applied.kept)
            of_ranks = self._xp.ascontiguousarray(of_hidden[self.trained_ranks].T)  # [C, R_t]
            self._add_of_a(self.multiply(seen, of_ranks).T)  # [in, C] @ [C, R_t]
            scaled = applied.hidden * self.rank_scales
            for member in self.members:
                if member.number in self.trained:
                    rows = scaled[member.ranks][self.trained[member.number]]
                    self._add_of_b(member, gradients[member.index] @ rows.T)  # [out, C] @ [C, R_tm]
        return of_hidden

    def add(self, other: GroupDelta) -> None:
        """Add what another one of the same place has collected."""
        if other.of_scales is not None:
            self._add_of_scales(other.of_scales)
        if other.of_a is not None:
            self._add_of_a(other.of_a)
        for member in self.members:
            if member.number in other.of_b:
                self._add_of_b(member, other.of_b[member.number])

    def _add_of_scales(self, found: Array) -> None:
        self.of_scales = _sum(self.of_scales, found)

    def _add_of_a(self, found: Array) -> None:
        self.of_a = _sum(self.of_a, found)

    def _add_of_b(self, member: PackedMember, found: Array) -> None:
        self.of_b[member.number] = _sum(self.of_b.get(member.number), found)


def _sum(total: Array | None, found: Array) -> Array:
    """Add to a total, in place; what was found becomes the first one."""
    if total is None:
        return found
    total += found
    return total


@dataclass(frozen=True)
class AppliedDelta:
    """A `GroupDelta` as it was applied once: its inputs ``[in, C]``, A x ``[R, C]``, and which were kept."""

    delta: GroupDelta
    inputs: Traced
    hidden: Array
    kept: Array | None

    def collect(self, gradients: Sequence[Array], of_inputs: Array | None) -> None:
        """Collect gradients from those of the outputs; add to that of the inputs ``[in, C]``, if wanted."""
        delta = self.delta
        of_hidden = delta.collect(self, gradients)
        if of_inputs is None:
            return
        if self.kept is not None:
            ranks = delta.trained_ranks
            of_inputs += delta.dropped.without(delta.a[ranks].T @ of_hidden[ranks], self.kept)
            of_hidden[ranks] = 0
        delta.multiply(delta.a.T, of_hidden, of_inputs)
