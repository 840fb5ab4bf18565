"""What a run of training told so far: all its losses, its samples and its last notice, for whoever looks."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.contracts import TrainingProgress

if TYPE_CHECKING:
    from studio.contracts import Work


@dataclass(frozen=True)
class RunRecord:
    """A run as it stands.

    Attributes
    ----------
    losses, validations
        ``(step, nats a token)`` of every step, and of those after which it was measured.
    samples
        ``(step, text)``.
    newest
        What it told last; None before the first step.
    """

    losses: tuple[tuple[int, float], ...] = ()
    validations: tuple[tuple[int, float], ...] = ()
    samples: tuple[tuple[int, str], ...] = ()
    newest: TrainingProgress | None = None


class RunMonitor:
    """Records a run; any thread may read what it knows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._losses: list[tuple[int, float]] = []
        self._validations: list[tuple[int, float]] = []
        self._samples: list[tuple[int, str]] = []
        self._newest: TrainingProgress | None = None

    def record(self) -> RunRecord:
        """Return all that is known now."""
        with self._lock:
            return RunRecord(
                tuple(self._losses),
                tuple(self._validations),
                tuple(self._samples),
                self._newest,
            )

    def watch(self, work: Work) -> Work:
        """Do the work, and note what it tells."""
        try:
            while True:
                try:
                    told = next(work)
                except StopIteration as end:
                    return end.value
                if isinstance(told, TrainingProgress):
                    self._note(told)
                yield told
        finally:
            work.close()

    def _note(self, told: TrainingProgress) -> None:
        with self._lock:
            self._losses.append((told.done, told.loss))
            if told.validation is not None:
                self._validations.append((told.done, told.validation))
            if told.sample is not None:
                self._samples.append((told.done, told.sample))
            self._newest = told
