"""What the command line prints: results on stdout, everything else on stderr."""

import json
import sys
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

from studio.contracts import Progress

Result = TypeVar("Result")


def print_json(value: dict[str, Any]) -> None:
    """Print one JSON object on one line. NaN and infinity, which JSON has not, must be None by now."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False))


def print_table(rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()) -> None:
    """Print rows of text as aligned columns; `right` says which columns are flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))] if rows else []
    for row in rows:
        cells = [
            cell.rjust(width) if column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        print("  ".join(cells).rstrip())


def finish(work: Generator[Progress, None, Result]) -> Result:
    """Run long work to its end and return its result; a terminal on stderr shows how far it is."""
    shown = sys.stderr.isatty()
    try:
        while True:
            progress = next(work)
            if shown:
                share = f"{100 * progress.done // progress.total:3d} % " if progress.total else ""
                print(f"\r\x1b[K{share}{progress.message}", end="", file=sys.stderr, flush=True)
    except StopIteration as end:
        result: Result = end.value
        return result
    finally:
        work.close()
        if shown:
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)
