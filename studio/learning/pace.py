"""How fast a run goes, and when it will be done."""

from __future__ import annotations

from collections import deque

LAST_STEPS = 10
"""Over how many steps the speed is taken."""


class Pace:
    """Tells tokens a second of the last steps, and the time that is left.

    Parameters
    ----------
    now
        When the run begins, in seconds of any clock.
    """

    def __init__(self, now: float) -> None:
        self._began = now
        self._steps = 0
        self._last: deque[tuple[int, float]] = deque(maxlen=LAST_STEPS)

    def step(self, tokens: int, seconds: float) -> None:
        """Take in a step: what it read, and how long that alone took."""
        self._steps += 1
        self._last.append((tokens, seconds))

    @property
    def tokens_per_second(self) -> float:
        """The speed of the last steps, without what lies between them."""
        seconds = sum(seconds for _, seconds in self._last)
        return sum(tokens for tokens, _ in self._last) / seconds if seconds else 0.0

    def seconds_left(self, steps: int, now: float) -> float:
        """Return how long so many steps will take, with all that lies between them."""
        return (now - self._began) / self._steps * steps if self._steps else 0.0
