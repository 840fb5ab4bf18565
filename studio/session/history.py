"""Undo and redo of the mixer: one step per change, one step per drag."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from psygnal import Signal

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studio.contracts import DeltaAdapter
    from studio.lora.stack import LoraStack, StackSnapshot

LONGEST = 200
"""How many steps are kept; the oldest are forgotten first, and with them the adapters that only they hold."""


class History:
    """Records every change of a stack by snapshots. `begin` and `end` bracket many changes into one step."""

    changed = Signal()
    """Emitted when what can be undone or redone changes."""

    def __init__(self, stack: LoraStack) -> None:
        self._stack = stack
        self._current = stack.snapshot()
        self._undo: list[StackSnapshot] = []
        self._redo: list[StackSnapshot] = []
        self._depth = 0
        self._restoring = False
        stack.changed.connect(self._record)

    @property
    def can_undo(self) -> bool:
        """Whether there is a step to undo."""
        return bool(self._undo)

    @property
    def can_redo(self) -> bool:
        """Whether there is an undone step to do again."""
        return bool(self._redo)

    def undo(self) -> None:
        """Go one step back; does nothing without one. A drag that is under way ends first."""
        self._travel(self._undo, self._redo)

    def redo(self) -> None:
        """Go one undone step forward again; does nothing without one."""
        self._travel(self._redo, self._undo)

    def begin(self) -> None:
        """Start a drag: its changes become one step. Brackets may nest; the outermost counts."""
        self._depth += 1

    def end(self) -> None:
        """End a drag; a drag that moved nothing leaves no step."""
        self._depth = max(0, self._depth - 1)
        self._record()

    @contextmanager
    def step(self) -> Iterator[None]:
        """Bracket the changes of a block into one step."""
        self.begin()
        try:
            yield
        finally:
            self.end()

    def exchange(self, key: str, adapter: DeltaAdapter) -> None:
        """Put another state of an adapter in its place, in the stack and in every step, without a step.

        For one that is being trained: undoing the move of a slider must not undo what was learnt since.
        """
        for steps in (self._undo, self._redo):
            steps[:] = [snapshot.exchanging(key, adapter) for snapshot in steps]
        self._current = self._current.exchanging(key, adapter)
        self._restoring = True
        try:
            self._stack.restore(self._stack.snapshot().exchanging(key, adapter))
        finally:
            self._restoring = False

    def clear(self) -> None:
        """Forget all steps; the stack stays as it is."""
        self._undo.clear()
        self._redo.clear()
        self._depth = 0
        self._current = self._stack.snapshot()
        self.changed.emit()

    def _record(self) -> None:
        if self._depth or self._restoring:
            return
        now = self._stack.snapshot()
        if now == self._current:
            return
        self._undo.append(self._current)
        del self._undo[:-LONGEST]
        self._redo.clear()
        self._current = now
        self.changed.emit()

    def _travel(self, source: list[StackSnapshot], target: list[StackSnapshot]) -> None:
        self._depth = 0
        self._record()
        if not source:
            return
        target.append(self._current)
        self._current = source.pop()
        self._restoring = True
        try:
            self._stack.restore(self._current)
        finally:
            self._restoring = False
        self.changed.emit()
