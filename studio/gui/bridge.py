"""The one way from worker threads into the GUI thread: psygnal signals become queued Qt signals."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, TypeAlias

from PySide6.QtCore import QObject, Qt, Signal

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from psygnal import SignalInstance as Source

    Key: TypeAlias = Callable[[Any], Hashable]


class Mailbox(QObject):
    """Takes values in any thread and hands them out in the thread it lives in.

    However many values arrive between two turns of the event loop, they cost one event. With a `key`, a value
    that is overtaken by a newer one of the same key is dropped: nobody wants to see a stale result.
    """

    arrived = Signal(object)
    """Emitted in the mailbox's own thread, in the order of arrival."""

    _filled = Signal()

    def __init__(self, key: Key | None = None, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._key = key
        self._lock = threading.Lock()
        self._waiting: dict[Hashable, Any] = {}
        self._count = 0
        self._filled.connect(self._hand_out, Qt.ConnectionType.QueuedConnection)

    def put(self, value: Any) -> None:
        """Leave a value; callable from every thread, returns at once."""
        with self._lock:
            first = not self._waiting
            self._count += 1
            self._waiting[self._count if self._key is None else self._key(value)] = value
        if first:
            self._filled.emit()

    def _hand_out(self) -> None:
        with self._lock:
            values = list(self._waiting.values())
            self._waiting = {}
        for value in values:
            self.arrived.emit(value)


class Bridge(QObject):
    """Carries signals of the engine thread and the jobs to the GUI thread, until it is closed."""

    def __init__(self, parent: QObject | None = None) -> None:
        super().__init__(parent)
        self._links: list[tuple[Source, Mailbox]] = []

    def every(self, source: Source, slot: Callable[[Any], object]) -> None:
        """Call the slot in the GUI thread with every value that the source emits."""
        self._link(source, Mailbox(parent=self), slot)

    def newest(self, source: Source, slot: Callable[[Any], object], key: Key = lambda value: None) -> None:
        """Call the slot in the GUI thread with the newest value, or the newest one of each key."""
        self._link(source, Mailbox(key, parent=self), slot)

    def close(self) -> None:
        """Stop listening. Values still on their way are dropped."""
        for source, mailbox in self._links:
            source.disconnect(mailbox.put)
            mailbox.arrived.disconnect()
        self._links.clear()

    def _link(self, source: Source, mailbox: Mailbox, slot: Callable[[Any], object]) -> None:
        mailbox.arrived.connect(slot)
        source.connect(mailbox.put)
        self._links.append((source, mailbox))
