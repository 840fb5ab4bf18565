"""Peak memory of a cold start: quantised and dense weights; with --large a model of a billion weights."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.demo import PROMPT_LENGTH, demo, prompt_text
from benchmarks.llama_cpp import LlamaCpp
from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from benchmarks.synthetic import write_billion
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.llama_cpp import Settings
    from benchmarks.run import Run

ADAPTERS = 3
ROUNDS = 3
ROOM = 600e6
"""What a large model may take beside its file, in bytes."""


def main(run: Run) -> None:
    """Report a row for each way the weights can lie, and one for the large model on request."""
    with tempfile.TemporaryDirectory() as folder:
        with demo(load_plugins()) as opened:
            base, text, tokens = opened.base.path, prompt_text(opened.tokenizer), opened.tokens()
            files = opened.adapter_files(ADAPTERS, Path(folder))
        theirs: list[Callable[[Sequence[float]], float]] = []
        settings: Settings | None = None
        if run.peers:
            with LlamaCpp.fastest(run.peers, base, files, tokens) as peer:
                settings = peer.settings
            theirs.append(partial(their_peak, run.peers, base, files, text, settings))
        request = {"base": str(base), "adapters": [str(path) for path in files], "text": text}
        for weights in ("quantised", "dense"):
            works: list[Callable[[Sequence[float]], float]] = [
                partial(our_peak, {**request, "weights": weights}),
                *theirs,
            ]
            peaks = interleave(run.rounds or ROUNDS, partial(NewScales(), ADAPTERS), works, warm_up=0)
            name = "memory" if weights == "quantised" else f"memory, {weights}"
            conditions = {"adapters": ADAPTERS, "tokens": PROMPT_LENGTH}
            fields = None if settings is None else settings.as_fields()
            run.report(Row(name, "MB", conditions, peaks, their_settings=fields))
        if run.large:
            report_large(run, Path(folder) / "billion.gguf")


def report_large(run: Run, path: Path) -> None:
    """Report the peak of a synthetic 1B-shaped Q4_K model beside its file and 600 MB."""
    parameters = write_billion(path)
    request = {
        "base": str(path),
        "adapters": [],
        "tokens": list(range(PROMPT_LENGTH)),
        "weights": "quantised",
    }
    allowed = (path.stat().st_size + ROOM) / 1e6
    peaks = [[our_peak(request, [])], [allowed]]
    conditions = {"million weights": parameters // 1_000_000, "tokens": PROMPT_LENGTH}
    run.report(Row("memory, a billion weights", "MB", conditions, peaks, against="file size + 600 MB"))


def our_peak(request: dict[str, Any], scales: Sequence[float]) -> float:
    """Start a process of ours: the most memory it had until its first logits, in MB."""
    command = [sys.executable, "-m", "benchmarks.cold_start", json.dumps({**request, "scales": scales})]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        assert said == f"{PROMPT_LENGTH} tokens\n", said
        return peak_of(process.pid)


def their_peak(
    python: str,
    base: Path,
    adapters: Sequence[Path],
    text: str,
    settings: Settings,
    scales: Sequence[float],
) -> float:
    """Start llama.cpp: the most memory it had until its first logits, in MB."""
    with LlamaCpp(python, base, adapters, settings) as peer:
        peer.prompt(peer.tokens(text), scales)
        return peak_of(peer.process_id)


def peak_of(process: int) -> float:
    """Return the largest resident size that a running process has had, in MB of 10^6 bytes.

    ``VmHWM`` in ``/proc/PID/status``, https://man7.org/linux/man-pages/man5/proc_pid_status.5.html.
    """
    for line in Path(f"/proc/{process}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError("the system does not tell a process's peak memory")
