"""PEFT adapters of every architecture in the engine: the logits are PEFT's own (tests/data/README.md)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio_peft.loader import PeftLoader, PeftOptions

FOLDER = Path(__file__).parents[2] / "data" / "architectures"
TOLERANCE = 1e-5  # the bound is 1e-4; measured: at most 2e-6


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


@pytest.mark.parametrize("name", sorted(path.name[: -len("-peft")] for path in FOLDER.glob("*-peft")))
def test_logits_are_those_of_peft(name: str) -> None:
    base = GgufFile.open(FOLDER / f"{name}.gguf")
    adapter = PeftLoader().load(FOLDER / f"{name}-peft", base, PeftOptions())
    assert not adapter.unmapped
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach({"peft": adapter})
    blend = BlendState((BlendChannel("peft", adapter.version, 1.0),))
    with np.load(FOLDER / f"{name}.npz") as arrays:
        tokens, wanted = arrays["tokens_0"].tolist(), arrays["adapted_0"]
    assert relative_error(engine.evaluate(tokens, BASE_ALONE, positions="all").logits, wanted) > 0.1
    assert relative_error(engine.evaluate(tokens, blend, positions="all").logits, wanted) < TOLERANCE
    base.close()
