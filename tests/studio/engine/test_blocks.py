"""What is computed together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from studio.engine import blocks as of_blocks
from studio.engine.blocks import blocks


def test_blocks_are_all_rows_in_their_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(of_blocks, "CACHE_BYTES", 100)
    assert list(blocks(np, 7, 30)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert list(blocks(np, 7, 1000)) == [slice(row, row + 1) for row in range(7)]
    assert list(blocks(np, 7, 1000, least=5)) == [slice(0, 5), slice(5, 7)]
    assert list(blocks(np, 0, 30)) == []


def test_a_device_takes_more_at_once(strict_device: Any) -> None:
    assert len(list(blocks(np, 4096, 4096))) > 1
    assert list(blocks(strict_device, 4096, 4096)) == [slice(0, 4096)]
