"""What a benchmark is run with, and where its rows go."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.row import Row


@dataclass(frozen=True)
class Run:
    """What the command line asked for.

    Attributes
    ----------
    peers
        The Python of the peers' environment; None runs ours alone.
    as_json
        Whether rows are printed as JSON, one a line.
    rounds
        How many rounds to run; None leaves it to the benchmark.
    large
        Whether `memory` makes its large model too.
    """

    peers: str | None = None
    as_json: bool = False
    rounds: int | None = None
    large: bool = False

    def report(self, row: Row) -> None:
        """Print a row at once."""
        print(row.json() if self.as_json else row, flush=True)
