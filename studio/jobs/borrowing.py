"""Long work on an engine of its own, which shares the weights of the live one."""

from __future__ import annotations

from concurrent.futures import CancelledError as FutureCancelledError
from concurrent.futures import wait
from typing import TYPE_CHECKING

from studio.contracts import Progress
from studio.errors import CancelledError
from studio.jobs.short_collections import short_collections

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import BaseModel, LearningEngine, Work
    from studio.jobs.engine_thread import EngineThread

LOOK_SECONDS = 0.1
"""How long to wait for the engine's thread before cancelling is possible again."""


def on_sibling(thread: EngineThread, base: BaseModel, work: Callable[[LearningEngine], Work]) -> Work:
    """Do work on a sibling of the live engine, and close it however the work ends.

    Raises
    ------
    CancelledError
        The desk closes.
    StudioError
        As opening the base does, and where the engine does not learn.
    """
    asked = thread.sibling(base)
    while not asked.done():
        yield Progress(0, 0, "Waiting for the engine")
        wait([asked], LOOK_SECONDS)
    try:
        engine = asked.result()
    except FutureCancelledError:
        raise CancelledError from None
    try:
        with thread.beside(), short_collections():
            return (yield from work(engine))
    finally:
        engine.close()
