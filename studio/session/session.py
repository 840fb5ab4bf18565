"""The session: one base, one stack of adapters, one prompt, and how to sample. Evented, and without Qt.

A session belongs to the thread that made it. Jobs never touch it: they are handed plain values and bring
some back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from psygnal import Signal

from studio.contracts import EVEN, ChannelState, Gains, Sampling
from studio.lora.gains import to_stored
from studio.lora.stack import LoraStack
from studio.session.document import AdapterEntry, BaseEntry, SessionDocument
from studio.session.history import History
from studio.session.limits import check_limits
from studio.session.opened import AdapterSource
from studio.session.prompt import Prompt

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts import BaseModel
    from studio.engine.tokenizer import Tokenizer
    from studio.errors import StudioError
    from studio.lora.report import AdapterReport
    from studio.session.opened import LoadedAdapter, OpenedBase, OpenedDocument


class Session:
    """What the desk and the command line work on.

    Attributes
    ----------
    base_changed
        Emitted without arguments after another base was set.
    prompt_changed, sampling_changed
        Emitted with the new `Prompt` or `Sampling`.
    modified_changed
        Emitted with True when something changed since the last save, False after it.
    stack
        The adapters and the mixer; `stack.changed` tells of every change of either.
    history
        Undo and redo of the stack.
    """

    base_changed = Signal()
    prompt_changed = Signal(object)
    sampling_changed = Signal(object)
    modified_changed = Signal(bool)

    def __init__(self) -> None:
        self.stack = LoraStack()
        self.history = History(self.stack)
        self._opened: OpenedBase | None = None
        self._loaded: dict[int, LoadedAdapter] = {}  # by id() of the adapter: undo can hand a key over
        self._prompt = Prompt()
        self._sampling = Sampling()
        self._path: Path | None = None
        self._modified = False
        self.stack.changed.connect(self._touch)

    # The base

    @property
    def base(self) -> BaseModel | None:
        """The base model, or None before one was opened."""
        return self._opened.base if self._opened else None

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The base's tokenizer; None without a base or where `tokenizer_error` says why."""
        return self._opened.tokenizer if self._opened else None

    @property
    def tokenizer_error(self) -> StudioError | None:
        """Why the base has no tokenizer."""
        return self._opened.tokenizer_error if self._opened else None

    def set_base(self, opened: OpenedBase) -> None:
        """Make this the base, with the adapters that were loaded again for it as the stack.

        An adapter that was on the stack before, by its location, keeps where its controls stand. Undo starts
        anew, since no earlier stack fits this base.
        """
        channels = {channel.key: channel for channel in self.stack.state.channels}
        before = {location: channels[key] for key, location in self.locations.items()}
        stand = [before.get(loaded.location, ChannelState("")) for loaded in opened.adapters]
        self._replace(opened, opened.adapters, stand, self.stack.state.master)
        self._set_modified(True)
        self.base_changed.emit()

    # Adapters

    @property
    def reports(self) -> Mapping[str, AdapterReport]:
        """The report of each adapter on the stack that was added here, by its key."""
        return {key: loaded.report for key, loaded in self._by_key().items()}

    @property
    def locations(self) -> Mapping[str, str]:
        """Where each adapter on the stack that was added here was loaded from, by its key."""
        return {key: loaded.location for key, loaded in self._by_key().items()}

    @property
    def sources(self) -> list[AdapterSource]:
        """What reads the adapters that were added here again, in their order, with the same options."""
        return [AdapterSource(loaded.location, loaded.options) for loaded in self._by_key().values()]

    def add_adapter(
        self,
        loaded: LoadedAdapter,
        scale: float = 1.0,
        *,
        muted: bool = False,
        soloed: bool = False,
        gains: Gains = EVEN,
    ) -> str:
        """Put an adapter on the stack and return its key."""
        self._loaded[id(loaded.adapter)] = loaded
        return self.stack.push(loaded.adapter, scale, muted=muted, soloed=soloed, gains=gains)

    def remove_adapter(self, key: str) -> None:
        """Take an adapter off the stack. Undo brings it back."""
        self.stack.remove(key)

    # Prompt and sampling

    @property
    def prompt(self) -> Prompt:
        """What the model is asked to continue."""
        return self._prompt

    @prompt.setter
    def prompt(self, prompt: Prompt) -> None:
        if prompt != self._prompt:
            self._prompt = prompt
            self._touch()
            self.prompt_changed.emit(prompt)

    @property
    def sampling(self) -> Sampling:
        """How generation chooses tokens."""
        return self._sampling

    @sampling.setter
    def sampling(self, sampling: Sampling) -> None:
        check_limits(sampling)
        if sampling != self._sampling:
            self._sampling = sampling
            self._touch()
            self.sampling_changed.emit(sampling)

    # The session file

    @property
    def path(self) -> Path | None:
        """The session file it was opened from or saved to."""
        return self._path

    @property
    def modified(self) -> bool:
        """Whether something changed since the session was opened or saved."""
        return self._modified

    def document(self) -> SessionDocument:
        """Return all that a session file stores, as a plain value that a job can write.

        Adapters that came from no file, pushed on the stack as objects, are not stored.
        """
        opened, state, loaded = self._opened, self.stack.state, self._by_key()
        return SessionDocument(
            base=BaseEntry(opened.location, opened.fingerprint) if opened else None,
            adapters=tuple(
                AdapterEntry(
                    loaded[channel.key].location,
                    loaded[channel.key].fingerprint,
                    scale=channel.scale,
                    muted=channel.muted,
                    soloed=channel.soloed,
                    gains=to_stored(channel.gains),
                    options=dict(loaded[channel.key].options),
                )
                for channel in state.channels
                if channel.key in loaded
            ),
            master=state.master,
            prompt=self._prompt,
            sampling=self._sampling,
        )

    def mark_saved(self, path: Path) -> None:
        """Remember that the session stands in this file as it is now."""
        self._path = path
        self._set_modified(False)

    def restore(self, opened: OpenedDocument) -> None:
        """Take over an opened session file in place of everything that was here, or nothing of it.

        Where something was left out it is a modified session without a path: saving it over the file would
        lose what could not be opened.
        """
        document = opened.document
        check_limits(document.sampling)
        loaded = opened.base.adapters if opened.base else ()
        self._replace(opened.base, loaded, opened.channels, document.master)
        self._prompt, self._sampling = document.prompt, document.sampling
        self._path = None if opened.left_out else opened.path
        self.prompt_changed.emit(self._prompt)
        self.sampling_changed.emit(self._sampling)
        self.base_changed.emit()
        self._set_modified(bool(opened.left_out))

    # Inside

    def _by_key(self) -> dict[str, LoadedAdapter]:
        members = self.stack.by_key.items()
        return {key: self._loaded[id(adapter)] for key, adapter in members if id(adapter) in self._loaded}

    def _replace(
        self,
        opened: OpenedBase | None,
        adapters: Sequence[LoadedAdapter],
        channels: Sequence[ChannelState],
        master: float,
    ) -> None:
        """Swap base and stack in one change, so that no listener sees the one with the other's."""
        stack = LoraStack()
        stack.set_master(master)
        for loaded, channel in zip(adapters, channels, strict=True):
            stack.push(
                loaded.adapter,
                channel.scale,
                muted=channel.muted,
                soloed=channel.soloed,
                gains=channel.gains,
            )
        self._opened = opened
        self._loaded = {id(loaded.adapter): loaded for loaded in adapters}
        self.stack.restore(stack.snapshot())
        self.history.clear()

    def _touch(self) -> None:
        self._set_modified(True)

    def _set_modified(self, modified: bool) -> None:
        if modified != self._modified:
            self._modified = modified
            self.modified_changed.emit(modified)
