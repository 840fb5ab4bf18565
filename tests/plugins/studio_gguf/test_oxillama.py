"""oxillama's dialect, and what oxillama makes of llama.cpp's files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import Adapter, FormatError
from studio_gguf.adapter import GgufAdapterLoader, GgufAdapterOptions
from studio_gguf.base import GgufBaseLoader

WriteAdapter = Callable[..., Path]

V = "blk.0.attn_v.weight"
ALONE = {"general.type": None, "adapter.type": None, "adapter.lora.alpha": None}
"""No key that llama.cpp asks for."""


def value_tensors(rank: int) -> dict[str, Any]:
    return {f"{V}.lora_a": np.ones((rank, 16), np.float32), f"{V}.lora_b": np.ones((8, rank), np.float32)}


@pytest.fixture
def read(write_gguf_adapter: WriteAdapter, tmp_path: Path) -> Callable[..., Adapter]:
    def read(rank: int, keys: dict[str, Any]) -> Adapter:
        path = write_gguf_adapter(tmp_path / "a.gguf", value_tensors(rank), keys)
        assert GgufAdapterLoader().recognises(path)
        assert not GgufBaseLoader().recognises(path)
        return GgufAdapterLoader().load(path, None, GgufAdapterOptions())

    return read


@pytest.mark.parametrize(
    ("keys", "scaling"),
    [
        ({"lora.r": np.uint32(4), "lora.alpha": 8.0}, 2.0),
        ({"adapter.lora.r": np.uint32(4), "adapter.lora.alpha": 8.0}, 2.0),
        (
            {"lora.r": np.uint32(2), "lora.alpha": 8.0},
            4.0,
        ),  # the file's word counts, not the tensors' rank
        ({"lora.r": np.uint32(4)}, 1.0),
        ({"lora.alpha": 8.0}, 2.0),  # no rank is said, so the tensors' own counts
    ],
)
def test_its_dialect_scales_by_the_metadata(
    read: Callable[..., Adapter], keys: dict[str, Any], scaling: float
) -> None:
    adapter = read(4, ALONE | keys)
    assert adapter.format == "oxillama GGUF adapter"
    assert adapter.factors[V].scaling == scaling
    assert "dialect" in [finding.topic for finding in adapter.findings]


def test_it_need_not_name_an_architecture(read: Callable[..., Adapter]) -> None:
    assert read(4, ALONE | {"lora.r": np.uint32(4), "general.architecture": "qwen2"}).architecture == "qwen2"


@pytest.mark.parametrize(
    "keys", [{"lora.r": np.uint32(0)}, {"lora.r": "8"}, {"lora.alpha": -1.0, "lora.r": np.uint32(4)}]
)
def test_what_makes_no_sense_is_refused(read: Callable[..., Adapter], keys: dict[str, Any]) -> None:
    with pytest.raises(FormatError):
        read(4, ALONE | keys)


@pytest.mark.parametrize(
    ("rank", "keys", "times"),
    [
        (8, {}, None),  # the default is right by chance
        (16, {}, "2"),  # alpha / 8 where alpha / 16 is meant
        (4, {}, "0.5"),
        (16, {"lora.r": np.uint32(16)}, None),
        (16, {"lora.r": np.uint32(16), "lora.alpha": 12.0}, "3"),
        (16, {"adapter.lora.alpha": None}, None),
    ],
)
def test_what_oxillama_makes_of_llama_cpps_files(
    read: Callable[..., Adapter], rank: int, keys: dict[str, Any], times: str | None
) -> None:
    """Ours is llama.cpp's reading, alpha / the tensors' rank, whatever oxillama computes."""
    adapter = read(rank, keys)
    alpha = 4.0 if "adapter.lora.alpha" not in keys else rank
    assert adapter.factors[V].scaling == alpha / rank
    findings = [finding for finding in adapter.findings if finding.topic == "oxillama-rank"]
    assert [f"applies {times} times" in finding.programs[0][1] for finding in findings] == (
        [] if times is None else [True]
    )
