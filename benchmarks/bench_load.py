"""A cold start: from the start of the process to the first logits of a blend of three, 64 tokens of text."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.demo import PROMPT_LENGTH, demo, prompt_text
from benchmarks.llama_cpp import LlamaCpp
from benchmarks.rounds import NewScales, interleave
from benchmarks.row import Row
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.llama_cpp import Settings
    from benchmarks.run import Run

ADAPTERS = 3
ROUNDS = 5


def main(run: Run) -> None:
    """Report one row. The files lie in the system's cache by the time that it counts."""
    with tempfile.TemporaryDirectory() as folder:
        with demo(load_plugins()) as opened:
            base, text, tokens = opened.base.path, prompt_text(opened.tokenizer), opened.tokens()
            files = opened.adapter_files(ADAPTERS, Path(folder))
        works: list[Callable[[Sequence[float]], float]] = [partial(start_ours, base, files, text)]
        settings: Settings | None = None
        if run.peers:
            with LlamaCpp.fastest(run.peers, base, files, tokens) as peer:
                settings = peer.settings
            works.append(partial(start_theirs, base, files, text, python=run.peers, settings=settings))
        times = interleave(run.rounds or ROUNDS, partial(NewScales(), ADAPTERS), works, warm_up=1)
        conditions = {"adapters": ADAPTERS, "tokens": PROMPT_LENGTH}
        their_settings = None if settings is None else settings.as_fields()
        run.report(Row("load", "ms", conditions, times, their_settings=their_settings))


def start_ours(base: Path, adapters: Sequence[Path], text: str, scales: Sequence[float]) -> float:
    """Start a process of ours: milliseconds until it says that it is done."""
    paths = [str(path) for path in adapters]
    request = json.dumps({"base": str(base), "adapters": paths, "text": text, "scales": scales})
    started = time.perf_counter()
    command = [sys.executable, "-m", "benchmarks.cold_start", request]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        said = process.stdout.readline()
        took = (time.perf_counter() - started) * 1e3
    assert said == f"{PROMPT_LENGTH} tokens\n", said
    return took


def start_theirs(
    base: Path,
    adapters: Sequence[Path],
    text: str,
    scales: Sequence[float],
    *,
    python: str,
    settings: Settings,
) -> float:
    """Start llama.cpp: milliseconds until it has answered."""
    started = time.perf_counter()
    with LlamaCpp(python, base, adapters, settings) as peer:
        tokens = peer.tokens(text)
        peer.prompt(tokens, scales)
        took = (time.perf_counter() - started) * 1e3
    assert len(tokens) == PROMPT_LENGTH
    return took
