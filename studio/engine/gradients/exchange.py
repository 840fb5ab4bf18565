"""Parts of the same sequences on threads of their own: they meet at keys and values alone.

All but attention is done position by position, so that positions can be shared out. Queries look back: a part
waits for the keys and values of those before it, and on the way back for what those after it send.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

from studio.errors import CancelledError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.backend import Array
    from studio.engine.gradients.traced import Traced


class Exchange:
    """Where parts leave things for each other, each for one who takes it."""

    def __init__(self) -> None:
        self._left: dict[tuple[object, ...], Any] = {}
        self._changed = threading.Condition()
        self._given_up = False

    def leave(self, name: tuple[object, ...], what: Any) -> None:
        """Leave something under a name."""
        with self._changed:
            self._left[name] = what
            self._changed.notify_all()

    def take(self, name: tuple[object, ...]) -> Any:
        """Take what is left under a name, once it is; `CancelledError` once a part has given up."""
        with self._changed:
            self._changed.wait_for(lambda: self._given_up or name in self._left)
            if self._given_up:
                raise CancelledError
            return self._left.pop(name)

    def give_up(self) -> None:
        """Let nobody wait any more: a part has failed."""
        with self._changed:
            self._given_up = True
            self._changed.notify_all()


class KeysAndValues:
    """Stands where the cache of a pass does, for one whose keys and values have gradients.

    Parameters
    ----------
    xp
        The array module.
    spans
        Which positions each part has.
    number
        Which part this is.
    exchange
        Where the parts meet.
    """

    def __init__(self, xp: Any, spans: Sequence[slice], number: int, exchange: Exchange) -> None:
        self.length: int = spans[number].start
        self._xp = xp
        self._spans = spans
        self._number = number
        self._later = range(number + 1, len(spans))
        self._exchange = exchange

    def append(self, layer: int, keys: Traced, values: Traced) -> tuple[Traced, Traced]:
        """Return all keys and values so far, ``[N, groups, S, head_size]``: the parts' before, and these."""
        own = (keys.transpose(2, 0, 3, 1), values.transpose(2, 0, 3, 1))
        if len(self._spans) == 1:
            return own
        return self._joined((layer, "keys"), own[0]), self._joined((layer, "values"), own[1])

    def _joined(self, place: tuple[object, ...], own: Traced) -> Traced:
        """Put the parts before in front of this one's own."""
        exchange, number, mine = self._exchange, self._number, own.slot
        for later in self._later:
            exchange.leave((*place, number, later), (own.value, mine.wanted))
        before = [exchange.take((*place, earlier, number)) for earlier in range(number)]

        def join() -> Array:
            if not before:
                return own.value
            return self._xp.concatenate([*(value for value, _ in before), own.value], axis=2)

        wanted = mine.wanted or any(its for _, its in before)
        joined = own.tape.trace(join(), wanted=wanted, again=join)
        slot = joined.slot

        def play() -> None:
            gradient = slot.take()
            for earlier, (_, its) in enumerate(before):
                if its:
                    exchange.leave((*place, number, earlier), gradient[:, :, self._spans[earlier]])
            if mine.wanted:
                mine.receive(gradient[:, :, self._spans[number]])
                for later in self._later:
                    mine.receive(exchange.take((*place, later, number)))

        if wanted:
            own.tape.note((slot,), play)
        return joined
