"""Long work: how it reports and how it is cancelled."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

Cancelled: TypeAlias = Callable[[], bool]
"""Asked between two steps of long work; true means: stop now with `CancelledError`."""


def never() -> bool:
    """Say that nobody wants to cancel."""
    return False


@dataclass(frozen=True)
class Progress:
    """How far a job is: `done` of `total` steps, and what it is doing. `total` 0 means: not known."""

    done: int
    total: int
    message: str = ""


Work: TypeAlias = Generator[Progress, None, Any]
"""Long work as a generator: it yields its progress and returns its result. Closing it cancels it."""
