"""The peers' environment, and llama.cpp in it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent.parent

Logits = np.ndarray[Any, np.dtype[np.float32]]
LlamaCpp = Callable[[Path, Sequence[int], Sequence[tuple[Path, float]]], Logits]


@pytest.fixture(scope="session")
def peers_python() -> str:
    """The Python of the peers' environment (benchmarks/peers/requirements.txt)."""
    python = os.environ.get("LORA_STUDIO_PEERS")
    if not python:
        pytest.skip("LORA_STUDIO_PEERS names no Python with the peers in it")
    return python


@pytest.fixture
def llama_cpp(peers_python: str, tmp_path: Path) -> LlamaCpp:
    """Last-position logits by llama.cpp: of a base, with adapters at scales, on tokens."""

    def logits(base: Path, tokens: Sequence[int], adapters: Sequence[tuple[Path, float]]) -> Logits:
        request, out = tmp_path / "request.json", tmp_path / "logits.npy"
        named = [(str(path), scale) for path, scale in adapters]
        request.write_text(json.dumps({"base": str(base), "tokens": list(tokens), "adapters": named}))
        script = ROOT / "benchmarks" / "peers" / "llama_logits.py"
        done = subprocess.run(
            [peers_python, str(script), str(request), str(out)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr[-2000:]
        found: Logits = np.load(out)
        return found

    return logits
