"""What the command line prints: results on stdout, everything else on stderr."""

import json
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

from studio.contracts import Progress

Result = TypeVar("Result")

REPORT_SECONDS = 10.0
"""How often long work says how far it is, where stderr is no terminal."""


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
    """Run long work to its end and return its result; stderr shows how far it is."""
    with _on_one_line() if sys.stderr.isatty() else _now_and_then() as show:
        try:
            while True:
                progress = next(work)
                share = f"{100 * progress.done // progress.total:3d} % " if progress.total > 1 else ""
                show(share + progress.message)
        except StopIteration as end:
            result: Result = end.value
            return result
        finally:
            work.close()


@contextmanager
def _on_one_line() -> Iterator[Callable[[str], None]]:
    """Show progress on a terminal: each text in the place of the one before."""
    try:
        yield lambda text: print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    finally:
        print("\r\x1b[K", end="", file=sys.stderr, flush=True)


@contextmanager
def _now_and_then() -> Iterator[Callable[[str], None]]:
    """Show progress where lines stay: the latest text every `REPORT_SECONDS`, also within a long step."""
    latest = ""
    ended = threading.Event()

    def show(text: str) -> None:
        nonlocal latest
        latest = text

    def report() -> None:
        started = time.monotonic()
        while not ended.wait(REPORT_SECONDS):
            print(f"{latest} ({time.monotonic() - started:.0f} s)", file=sys.stderr, flush=True)

    reporter = threading.Thread(target=report, daemon=True)
    reporter.start()
    try:
        yield show
    finally:
        ended.set()
        reporter.join()
