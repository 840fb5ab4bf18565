"""An estimate of the remaining time that counts down and does not jump."""

from __future__ import annotations

SETTLE_SECONDS = 0.5
"""Work this young has no estimate yet."""

WEIGHT = 0.15
"""How far one report moves the expected end towards what that report alone would say."""


class RemainingTime:
    """Estimates when work ends from reports of `done` of `total` steps.

    Each report extrapolates the average pace to an end; the expected end is an exponential average of those,
    and the remaining time is its distance from now, so it counts down between reports as well. All times are
    in seconds of one monotonic clock.
    """

    def __init__(self) -> None:
        self._total = 0
        self._first: tuple[float, int] | None = None
        self._end: float | None = None

    def report(self, done: int, total: int, now: float) -> None:
        """Take in a report. Another total, or fewer steps done than at first, begins a new phase."""
        if total <= 0:
            self._first = self._end = None
            return
        if self._first is None or total != self._total or done < self._first[1]:
            self._total, self._first, self._end = total, (now, done), None
            return
        started, done_then = self._first
        if done == done_then or now - started < SETTLE_SECONDS:
            return
        end = now + (now - started) / (done - done_then) * max(0, total - done)
        self._end = end if self._end is None else self._end + WEIGHT * (end - self._end)

    def seconds(self, now: float) -> float | None:
        """Return the remaining seconds, or None while they cannot be told."""
        return None if self._end is None else max(0.0, self._end - now)
