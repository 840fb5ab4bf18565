"""A session with real parts: an adapter made of small factors, and reports made by describing it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.report import describe
from studio.session.opened import LoadedAdapter
from studio.session.session import Session

MakeAdapter = Callable[..., LoadedAdapter]


@pytest.fixture
def session() -> Session:
    return Session()


@pytest.fixture
def loaded(tmp_path: Path) -> MakeAdapter:
    """Make an adapter as loading it would: `loaded("pirate")`."""

    def make(name: str, *, fingerprint: str = "") -> LoadedAdapter:
        a, b = np.ones((2, 4), np.float32), np.ones((3, 2), np.float32)
        factors = {"blk.0.attn_q.weight": LoraFactors(a, b, alpha=2.0)}
        adapter = Adapter(name, factors, source=tmp_path / name)
        return LoadedAdapter(adapter, describe(adapter), str(tmp_path / name), fingerprint)

    return make
