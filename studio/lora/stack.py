"""`LoraStack`: the adapters on the desk and the mixer that blends them."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import TYPE_CHECKING

import numpy as np
from psygnal import Signal

from studio.contracts import (
    EVEN,
    BlendChannel,
    BlendState,
    ChannelState,
    DeltaAdapter,
    FloatArray,
    Gains,
    MixerState,
)
from studio.errors import MismatchError, StudioError
from studio.lora.adapter import Adapter
from studio.lora.blending import BlendDelta
from studio.lora.dora import AnyAdapter, DoraAdapter
from studio.lora.targets import module_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


LARGEST_SCALE = 1e9
"""Master times channel scale times gain stays far inside what float32 holds."""


@dataclass(frozen=True)
class StackSnapshot:
    """Everything a stack is, frozen: what undo restores and what another thread may hold on to.

    Attributes
    ----------
    members
        The adapters by key, in the order of the channels. Never changed in place.
    entry_keys
        The keys of the members that `LoraStack.push` added.
    state
        Where the mixer's controls stand: one channel a member, in the same order.
    """

    members: Mapping[str, DeltaAdapter] = field(default_factory=lambda: MappingProxyType({}))
    entry_keys: frozenset[str] = frozenset()
    state: MixerState = MixerState()

    def exchanging(self, key: str, adapter: DeltaAdapter) -> StackSnapshot:
        """Return the same with another adapter under a key; itself where it has no such key."""
        if key not in self.members:
            return self
        return replace(self, members=MappingProxyType({**self.members, key: adapter}))

    @property
    def blend(self) -> BlendState:
        """The audible part: master times channel scale; channels at 0 are left out."""
        return BlendState(
            tuple(
                BlendChannel(
                    channel.key,
                    self.members[channel.key].version,
                    self.state.master * channel.scale,
                    channel.gains,
                )
                for channel in self.state.channels
                if self.state.audible(channel) and self.state.master * channel.scale != 0
            )
        )


class LoraStack:
    """Adapters whose deltas add up: y = W x + master * sum_i scale_i gain_i dW_i x.

    The stack is one frozen `StackSnapshot`; every change puts a new one in its place and emits `changed`, so
    whoever holds an older one, in a forward pass on another thread say, is never disturbed.
    """

    changed = Signal()

    def __init__(self) -> None:
        self._snapshot = StackSnapshot()
        self._issued: dict[str, Path | None] = {}  # every key ever given out, with its adapter's source
        self._delta = BlendDelta()

    def __repr__(self) -> str:
        """Show the members with their scales, and the master."""
        members = ", ".join(f"{channel.key} x {channel.scale:g}" for channel in self.state.channels)
        return f"LoraStack({members or 'empty'}; master {self.state.master:g})"

    def clone(self) -> LoraStack:
        """Return an independent stack of the same adapters, with the controls where they stand here."""
        clone = LoraStack()
        clone._snapshot, clone._issued = self._snapshot, dict(self._issued)
        return clone

    # What stands on it

    def __len__(self) -> int:
        """Count all members."""
        return len(self._snapshot.members)

    @property
    def is_empty(self) -> bool:
        """Whether no adapter is stacked."""
        return not self._snapshot.members

    @property
    def by_key(self) -> Mapping[str, DeltaAdapter]:
        """All members by key, bottom to top. The mapping is immutable: a change makes a new one."""
        return self._snapshot.members

    @property
    def entries(self) -> tuple[tuple[AnyAdapter, float], ...]:
        """The ``(adapter, scale)`` pairs that `push` added."""
        members, keys = self._snapshot.members, self._snapshot.entry_keys
        return tuple(
            (adapter, channel.scale)
            for channel in self.state.channels
            if channel.key in keys and isinstance(adapter := members[channel.key], Adapter | DoraAdapter)
        )

    @property
    def adapters(self) -> tuple[DeltaAdapter, ...]:
        """The members that `push_adapter` added."""
        return tuple(
            adapter for key, adapter in self._snapshot.members.items() if key not in self._snapshot.entry_keys
        )

    def push(
        self,
        adapter: AnyAdapter,
        scale: float = 1.0,
        *,
        muted: bool = False,
        soloed: bool = False,
        gains: Gains = EVEN,
    ) -> str:
        """Stack an adapter on top and return its key: its name, with a number where the name is taken."""
        channel = ChannelState("", scale, muted, soloed, gains)
        _check_channel(channel)
        return self._add(adapter, channel, is_entry=True)

    def push_adapter(self, adapter: DeltaAdapter) -> str:
        """Stack any object that satisfies `DeltaAdapter`, at scale 1, and return its key."""
        if not isinstance(adapter, DeltaAdapter):
            raise StudioError(
                f"{type(adapter).__name__} is no adapter: it must have name, version, modules and delta()"
            )
        return self._add(adapter, ChannelState(""), is_entry=False)

    def pop(self) -> tuple[AnyAdapter, float] | None:
        """Remove the last adapter that `push` added and return it with its scale; None if there is none."""
        if not self.entries:
            return None
        last = self.entries[-1]
        entry_keys = self._snapshot.entry_keys
        self.remove(next(key for key in reversed(list(self.by_key)) if key in entry_keys))
        return last

    def remove(self, key: str) -> DeltaAdapter:
        """Remove and return the adapter with this key."""
        removed = self.by_key[self.channel(key).key]
        self._become(
            StackSnapshot(
                MappingProxyType({name: member for name, member in self.by_key.items() if name != key}),
                self._snapshot.entry_keys - {key},
                replace(self.state, channels=tuple(c for c in self.state.channels if c.key != key)),
            )
        )
        return removed

    def clear(self) -> None:
        """Remove all adapters. The master scale stays."""
        self._become(StackSnapshot(state=MixerState(master=self.state.master)))

    # The mixer

    @property
    def state(self) -> MixerState:
        """Where the mixer's controls stand; set it to move them all at once, as a preset does."""
        return self._snapshot.state

    @state.setter
    def state(self, state: MixerState) -> None:
        keys = [channel.key for channel in state.channels]
        if sorted(keys) != sorted(self.by_key):
            raise MismatchError(f"the mixer state is for {keys}, the stack holds {list(self.by_key)}")
        _checked_scale(state.master)
        for channel in state.channels:
            _check_channel(channel)
        if state != self.state:
            members = MappingProxyType({key: self.by_key[key] for key in keys})
            self._become(replace(self._snapshot, members=members, state=state))

    @property
    def blend(self) -> BlendState:
        """What is heard: the audible channels at their scale times the master's."""
        return self._snapshot.blend

    def channel(self, key: str) -> ChannelState:
        """Return where one channel's controls stand."""
        for channel in self.state.channels:
            if channel.key == key:
                return channel
        raise StudioError(f"the stack has no adapter {key!r}; it holds {list(self.by_key)}")

    def set_scale(self, key: str, scale: float) -> None:
        """Set one channel's scale; it may be negative."""
        self._change(key, lambda channel: replace(channel, scale=_checked_scale(scale)))

    def set_gains(self, key: str, gains: Gains) -> None:
        """Set how loud one channel is in each module, beside its scale."""
        self._change(key, lambda channel: replace(channel, gains=gains))

    def set_muted(self, key: str, on: bool) -> None:
        """Mute or unmute one channel; its scale stays."""
        self._change(key, lambda channel: replace(channel, muted=on))

    def set_soloed(self, key: str, on: bool, exclusive: bool = False) -> None:
        """Solo one channel or not; `exclusive` takes the solo of all others away."""
        self.channel(key)
        self.state = replace(
            self.state,
            channels=tuple(
                replace(channel, soloed=on if channel.key == key else channel.soloed and not exclusive)
                for channel in self.state.channels
            ),
        )

    def set_master(self, scale: float) -> None:
        """Set the scale that multiplies every channel's."""
        self.state = replace(self.state, master=_checked_scale(scale))

    # Undo

    def snapshot(self) -> StackSnapshot:
        """Return all that the stack is; it never changes."""
        return self._snapshot

    def restore(self, snapshot: StackSnapshot) -> None:
        """Become what the stack was when the snapshot was taken: members, order and controls."""
        if snapshot is not self._snapshot:
            self._become(snapshot)

    # The deltas

    def apply(self, module: str, inputs: FloatArray, out_features: int) -> FloatArray:
        """Return the blend's delta on one module; zero where no audible adapter has it.

        Parameters
        ----------
        module
            The GGUF weight name, such as ``blk.0.attn_q.weight``.
        inputs
            ``[..., in]``, float32.
        out_features
            The length of the module's output.

        Returns
        -------
        FloatArray
            ``[..., out_features]``, to add to the module's own output.

        Raises
        ------
        MismatchError
            An adapter takes inputs or gives outputs of another length.
        """
        snapshot = self._snapshot
        inputs = np.asarray(inputs, dtype=np.float32)
        delta = self._delta(snapshot.members, snapshot.blend, module, inputs)
        if delta is None:
            return np.zeros((*inputs.shape[:-1], out_features), dtype=np.float32)
        if delta.shape[-1] != out_features:
            raise MismatchError(f"gives {delta.shape[-1]} output features, not {out_features}", where=module)
        return delta

    def applied_delta(self, target: str, layer: int | None, inputs: FloatArray) -> FloatArray | None:
        """Return the blend's delta on a target, such as ``attn_q``, of a layer; None where nothing acts."""
        snapshot = self._snapshot
        inputs = np.asarray(inputs, dtype=np.float32)
        return self._delta(snapshot.members, snapshot.blend, module_name(target, layer), inputs)

    # How it changes

    def _add(self, adapter: DeltaAdapter, channel: ChannelState, *, is_entry: bool) -> str:
        key = self._issue_key(adapter)
        before = self._snapshot
        self._become(
            StackSnapshot(
                MappingProxyType({**before.members, key: adapter}),
                before.entry_keys | ({key} if is_entry else frozenset()),
                replace(before.state, channels=(*before.state.channels, replace(channel, key=key))),
            )
        )
        return key

    def _issue_key(self, adapter: DeltaAdapter) -> str:
        """Find a key that no other adapter ever had, so that undone steps keep theirs."""
        source = adapter.source if isinstance(adapter, Adapter | DoraAdapter) else None
        name = adapter.name or "adapter"
        for number in itertools.count(1):
            key = name if number == 1 else f"{name} {number}"
            is_own = source is not None and self._issued.get(key) == source
            if key not in self.by_key and (is_own or key not in self._issued):
                break
        self._issued[key] = source
        return key

    def _change(self, key: str, change: Callable[[ChannelState], ChannelState]) -> None:
        self.channel(key)
        self.state = replace(
            self.state,
            channels=tuple(
                change(channel) if channel.key == key else channel for channel in self.state.channels
            ),
        )

    def _become(self, snapshot: StackSnapshot) -> None:
        if snapshot.members is not self._snapshot.members:
            self._delta.clear()
        self._snapshot = snapshot
        self.changed.emit()


def _checked_scale(scale: float) -> float:
    if not abs(scale) <= LARGEST_SCALE:  # false for NaN as well
        raise StudioError(f"a scale must be a number within ±{LARGEST_SCALE:g}, not {scale}")
    return float(scale)


def _check_channel(channel: ChannelState) -> None:
    _checked_scale(channel.scale)
    for module, gain in channel.gains.by_module:
        if not abs(gain) <= LARGEST_SCALE:
            raise StudioError(f"a gain must be a number within ±{LARGEST_SCALE:g}, not {gain}", where=module)
