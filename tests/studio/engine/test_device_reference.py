"""A real model on a device: on the strict double here, on a real one where there is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from studio.contracts import BlendChannel, BlendState
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio_peft.loader import PeftLoader, PeftOptions

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

LIMITS = {"dense": 1e-4, "float16": 2e-3, "quantised": 1e-4}


def largest_error(
    backend: str, residency: Any, path: Path, adapters_dir: Path, cases: Sequence[Any]
) -> float:
    """Return how far last logits are from those of transformers and PEFT, at most."""
    base = GgufFile.open(path)
    engine = LocalEngine(choose_backend(backend), residency)
    engine.open(base)
    loader = PeftLoader()
    adapters = {folder.name: loader.load(folder, base, PeftOptions()) for folder in adapters_dir.iterdir()}
    engine.attach(adapters)
    base.close()
    errors = []
    for case in cases:
        channels = [BlendChannel(key, adapters[key].version, scale) for key, scale in case.scales.items()]
        logits = engine.evaluate(case.tokens, BlendState(tuple(channels))).logits
        errors.append(float(np.linalg.norm(logits - case.logits) / np.linalg.norm(case.logits)))
    engine.close()
    return max(errors)


@pytest.mark.usefixtures("strict_device")
@pytest.mark.parametrize("residency", ["float16", "quantised"])  # every architecture's fixture is run dense
def test_the_double_gives_the_reference(
    smollm2_path: Path, adapters_dir: Path, reference: list[Any], residency: str
) -> None:
    short = [min(reference, key=lambda case: len(case.tokens) if any(case.scales.values()) else 1 << 30)]
    assert largest_error("cupy", residency, smollm2_path, adapters_dir, short) < LIMITS[residency]


@pytest.mark.gpu
@pytest.mark.parametrize("residency", LIMITS)
def test_a_real_device_gives_the_reference(
    cuda_device: str, smollm2_path: Path, adapters_dir: Path, reference: list[Any], residency: str
) -> None:
    found = largest_error(cuda_device, residency, smollm2_path, adapters_dir, reference)
    assert found < LIMITS[residency]
