"""The gradients of a blend's deltas, summed up over passes and told by channel and module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from studio.contracts import NO_DROPOUT, FactorGradients
from studio.engine.compiled_numpy import product_of
from studio.engine.gradients.dropped_inputs import DroppedInputs
from studio.engine.gradients.group_delta import GroupDelta
from studio.errors import EngineError, MismatchError

if TYPE_CHECKING:
    from studio.contracts import BlendState, Dropout
    from studio.engine.adapter_bank import AdapterBank, PackedGroup
    from studio.engine.gradients.group_delta import Place
    from studio.engine.model import LinearGroup


class DeltaGradients:
    """Sums up the gradients of a blend's deltas over any number of passes.

    Parameters
    ----------
    bank
        The packed adapters.
    xp
        The array module to compute with.
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
        The adapter to train is not in the blend, or the rate of dropout is not below 1.
    """

    def __init__(
        self,
        bank: AdapterBank,
        xp: Any,
        state: BlendState,
        train: str | None = None,
        dropout: Dropout = NO_DROPOUT,
    ) -> None:
        self.bank = bank
        self.state = state
        self.dropped = DroppedInputs(dropout)
        self.xp = xp
        self.multiply = product_of(self.xp)
        self._arguments = (bank, xp, state, train, dropout)
        heard = {channel.key for channel in state.channels}
        keys = list(bank.adapters)
        opaque = {number for pairs in bank.opaque.values() for number, _ in pairs}
        for number, (key, adapter) in enumerate(bank.adapters.items()):
            if number in opaque and key in heard:
                raise MismatchError(
                    f"{adapter.name!r} shows no factors, so that gradients cannot pass through it",
                    where=key,
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

    def apart(self, start: int) -> DeltaGradients:
        """Return one for another part of the same pass, from a position on; `add` brings them together."""
        other = DeltaGradients(*self._arguments)
        other.dropped.passes, other.dropped.start = self.dropped.passes, start
        return other

    def add(self, other: DeltaGradients) -> None:
        """Add what another one of the same blend has collected."""
        for (group, expert), delta in other._deltas.items():
            mine = self.of_group(group, expert)
            if mine is not None and delta is not None:
                mine.add(delta)

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
                        whole = found.setdefault(module, self._of_experts(delta.packed, own))
                        whole.a[expert], whole.b[expert] = own.a, own.b
        return found

    def _of_experts(self, packed: PackedGroup, one: FactorGradients) -> FactorGradients:
        """Make room for all experts: those that no position went through have no gradient."""
        count = packed.a.shape[0]
        return FactorGradients(
            np.zeros((count, *one.a.shape), one.a.dtype), np.zeros((count, *one.b.shape), one.b.dtype)
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
        scales = self._rank_scales[packed.ranks]
        return GroupDelta(
            self.bank.backend, self.multiply, self.dropped, packed, place, members, scales, trained
        )
