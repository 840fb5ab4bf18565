"""Adapters of random numbers, and the real base."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from studio.formats.gguf_file import GgufFile
from studio.lora.adapter import Adapter, LoraFactors

MakeAdapter = Callable[..., Adapter]


@pytest.fixture(scope="session")
def make_adapter() -> MakeAdapter:
    """Make an adapter of random numbers: shapes ``([E,] out, in)`` by module, one rank for all."""

    def make(
        name: str,
        shapes: dict[str, tuple[int, ...]],
        rank: int = 2,
        alpha: float = 4.0,
        seed: int = 0,
        **more: object,
    ) -> Adapter:
        rng = np.random.default_rng([seed, *name.encode()])
        factors = {
            module: LoraFactors(
                rng.standard_normal((*experts, rank, inputs), dtype=np.float32),
                rng.standard_normal((*experts, outputs, rank), dtype=np.float32),
                alpha,
            )
            for module, (*experts, outputs, inputs) in shapes.items()
        }
        return Adapter(name, factors, **more)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def smollm2(smollm2_path: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(smollm2_path)
    yield base
    base.close()
