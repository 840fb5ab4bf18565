"""Merge SmolLM2 and three adapters to F16: the work apart from start-up and fsync, and the peak of memory."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

from benchmarks.row import Row

if TYPE_CHECKING:
    from benchmarks.run import Run

ROUNDS = 5


def main(run: Run) -> None:
    """Report both; ours alone, since llama-cpp-python comes without llama.cpp's llama-export-lora."""
    measured = [once() for _ in range(run.rounds or ROUNDS)]
    conditions = {"adapters": 3}
    run.report(Row("merge", "ms", conditions, [[milliseconds for milliseconds, _ in measured]]))
    run.report(Row("merge, peak", "MB", conditions, [[peak for _, peak in measured]]))


def once() -> tuple[float, float]:
    """Merge in a process of its own: milliseconds of work, and megabytes at the most."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.merge_once"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    return float(found["milliseconds"]), float(found["megabytes"])
