"""Open the base: metadata and tensor index, without touching tensor bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.rounds import repeat
from benchmarks.row import Row
from studio.api import GgufFile
from studio.resources import DEMO_BASE, resolve

if TYPE_CHECKING:
    from benchmarks.run import Run

ROUNDS = 20


def main(run: Run) -> None:
    """Report how long opening takes."""
    path = resolve(DEMO_BASE)
    times = repeat(run.rounds or ROUNDS, lambda _: GgufFile.open(path).close())
    run.report(Row("open", "ms", {}, [times]))
