"""Random weights of every type, as their files hold them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.formats.ggml_types import GGML_TYPES_BY_NAME

HALVES_AT = {"Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,), "Q4_1": (0, 2), "Q5_1": (0, 2)}


def random_rows(type_name: str, shape: tuple[int, int] = (40, 512)) -> Any:
    """Make random rows of a type; their float16 fields are ordinary numbers."""
    random = np.random.default_rng(3)
    if type_name in ("F16", "BF16", "F32"):
        values = random.standard_normal(shape).astype("<f2" if type_name == "F16" else "<f4")
        upper = (values.view("<u4") >> 16).astype("<u2") if type_name == "BF16" else values
        return upper.view(np.uint8).reshape(shape[0], -1)
    kind = GGML_TYPES_BY_NAME[type_name]
    blocks = random.integers(
        0, 256, (shape[0], shape[1] // kind.block_size, kind.block_bytes), dtype=np.uint8
    )
    for start in HALVES_AT.get(type_name, (0,)):
        halves = random.uniform(0.01, 0.1, blocks.shape[:2]).astype("<f2")
        blocks[..., start : start + 2] = halves[..., None].view(np.uint8)
    return blocks.reshape(shape[0], -1)


@pytest.fixture
def stored_rows() -> Callable[..., Any]:
    return random_rows
