"""`AdapterCache`: the adapters used last, by name, loaded once however many callers ask at a time."""

from __future__ import annotations

import threading
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Generic, TypeVar

from studio.errors import StudioError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

T = TypeVar("T")


class AdapterCache(Generic[T]):
    """Holds up to `max_size` adapters; the least recently used one makes room. Any thread may use it.

    Parameters
    ----------
    max_size
        How many adapters it holds, at least 1.
    load
        Reads an adapter from a path. It runs without the cache's lock, so that other names stay served.

    Raises
    ------
    StudioError
        `max_size` is below 1.
    """

    def __init__(self, max_size: int, load: Callable[[Path], T]) -> None:
        if max_size < 1:
            raise StudioError(
                f"a cache of {max_size} adapters holds none", remedy="Give it a size of at least 1"
            )
        self.max_size = max_size
        self._load = load
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, T] = OrderedDict()  # least recently used first
        self._loading: dict[str, tuple[Path, Future[T]]] = {}

    @property
    def size(self) -> int:
        """How many adapters it holds."""
        with self._lock:
            return len(self._entries)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all its adapters, the least recently used first."""
        with self._lock:
            return tuple(self._entries)

    def get(self, name: str) -> T | None:
        """Return an adapter, which becomes the most recently used one; None where it is not held."""
        with self._lock:
            if name not in self._entries:
                return None
            self._entries.move_to_end(name)
            return self._entries[name]

    def get_or_load(self, name: str, path: Path) -> T:
        """Return an adapter, read from the path where it is not held.

        Callers that ask for one name and path at the same time share one load, and its error.
        """
        with self._lock:
            if name in self._entries:
                self._entries.move_to_end(name)
                return self._entries[name]
            known = self._loading.get(name)
            if known is not None and known[0] == path:
                future, own = known[1], False
            else:
                future, own = Future[T](), True
                self._loading[name] = path, future
        if own:
            self._fulfil(name, path, future)
        return future.result()

    def put(self, name: str, adapter: T) -> None:
        """Hold an adapter as the most recently used one; a load of its name that runs now is not kept."""
        with self._lock:
            self._loading.pop(name, None)
            self._keep(name, adapter)

    def evict(self, name: str) -> None:
        """Let go of an adapter; a load of its name that runs now is not kept. Unknown names do no harm."""
        with self._lock:
            self._loading.pop(name, None)
            self._entries.pop(name, None)

    def _fulfil(self, name: str, path: Path, future: Future[T]) -> None:
        """Load for all who wait; keep the result unless the name was put or evicted meanwhile."""
        try:
            adapter = self._load(path)
        except BaseException as error:
            with self._lock:
                if self._loading.get(name) == (path, future):
                    del self._loading[name]
            future.set_exception(error)
            return
        with self._lock:
            if self._loading.get(name) == (path, future):
                del self._loading[name]
                self._keep(name, adapter)
        future.set_result(adapter)

    def _keep(self, name: str, adapter: T) -> None:
        self._entries[name] = adapter
        self._entries.move_to_end(name)
        while len(self._entries) > self.max_size:
            self._entries.popitem(last=False)
