"""The parts of a module: of random numbers, of experts, and of the demo's adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import DeltaPart
from studio.formats.gguf_file import GgufFile
from studio.jobs.opening import read_adapter
from studio.lora.adapter import Adapter
from studio.registry import load_plugins

Doubles = np.ndarray[Any, np.dtype[np.float64]]
MakeParts = Callable[..., list[DeltaPart]]
Dense = Callable[[Sequence[DeltaPart]], Doubles]

SCALES = (0.8, -0.5, 1.3)


@pytest.fixture(scope="session")
def make_parts() -> MakeParts:
    """Make parts of random numbers for a weight of a shape, with one rank each."""

    def make(shape: tuple[int, ...] = (40, 30), ranks: Sequence[int] = (2, 5, 3)) -> list[DeltaPart]:
        random = np.random.default_rng([*shape, *ranks])
        *experts, outputs, inputs = shape
        return [
            DeltaPart(
                random.standard_normal((*experts, rank, inputs), np.float32),
                random.standard_normal((*experts, outputs, rank), np.float32),
                2 * scale,
                scale,
            )
            for rank, scale in zip(ranks, SCALES, strict=False)
        ]

    return make


@pytest.fixture(scope="session")
def demo_adapters(smollm2: GgufFile, adapters_dir: Path) -> list[Adapter]:
    plugins = load_plugins(safe_mode=True)
    read = [
        read_adapter(adapters_dir / f"smollm2-{name}", smollm2, plugins).adapter
        for name in ("fortune", "legal", "python")
    ]
    return [adapter for adapter in read if isinstance(adapter, Adapter)]


@pytest.fixture(scope="session")
def demo_parts(demo_adapters: list[Adapter]) -> list[DeltaPart]:
    """The three adapters' shares of one module of SmolLM2."""
    factors = [adapter.factors["blk.3.attn_q.weight"] for adapter in demo_adapters]
    return [
        DeltaPart(pair.a, pair.b, scale * pair.scaling, scale)
        for pair, scale in zip(factors, SCALES, strict=True)
    ]


@pytest.fixture(scope="session")
def cases(make_parts: MakeParts, demo_parts: list[DeltaPart]) -> dict[str, list[DeltaPart]]:
    """What every method is tried on."""
    return {
        "random": make_parts(),
        "alone": make_parts(ranks=(4,)),
        "experts": make_parts((3, 12, 20)),
        "SmolLM2": demo_parts,
    }


@pytest.fixture(scope="session")
def dense() -> Dense:
    """Return the deltas of parts as they are heard, float64 ``[N, out, in]`` or ``[N, E, out, in]``."""
    return lambda parts: np.stack([part.scale * (part.b.astype(np.float64) @ part.a) for part in parts])


@pytest.fixture(scope="session")
def error() -> Callable[[Any, Doubles], float]:
    """Return ||found - expected|| / ||expected||; what is found may be in factors."""

    def relative(found: DeltaPart | Doubles, expected: Doubles) -> float:
        if isinstance(found, DeltaPart):
            found = found.scale * (found.b.astype(np.float64) @ found.a)
        assert found.shape == expected.shape
        return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))

    return relative
