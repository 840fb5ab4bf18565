"""zerfoo's two dialects: what their metadata must say, and what their layers are called."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import FormatError, write_gguf
from studio_zerfoo.loader import ZerfooLoader, ZerfooOptions

A, B = np.ones((2, 16), np.float32), np.ones((8, 2), np.float32)
INFERENCE = {"lora_a.blk.0.attn_v": A, "lora_b.blk.0.attn_v": B}
KEYS: dict[str, Any] = {"general.architecture": "lora", "lora.rank": np.uint32(2), "lora.alpha": 4.0}


def load(path: Path) -> Any:
    return ZerfooLoader().load(path, None, ZerfooOptions())


def write(path: Path, tensors: dict[str, Any] = INFERENCE, **keys: Any) -> Path:
    named = {name.replace("__", "."): value for name, value in keys.items()}
    write_gguf(path, {key: value for key, value in (KEYS | named).items() if value is not None}, tensors)
    return path


def test_the_architecture_lora_is_no_models(tmp_path: Path) -> None:
    adapter = load(write(tmp_path / "a.gguf"))
    assert adapter.architecture is None
    assert adapter.factors["blk.0.attn_v.weight"].scaling == 2
    assert [finding.topic for finding in adapter.findings] == ["dialect"]


def test_layers_without_a_name_in_the_base_are_listed(tmp_path: Path) -> None:
    extra = {"lora_a.encoder.0": A, "lora_b.encoder.0": B, "stray": B}
    assert load(write(tmp_path / "a.gguf", INFERENCE | extra)).unmapped == ("stray", "encoder.0")


@pytest.mark.parametrize(
    ("tensors", "keys", "where"),
    [
        (INFERENCE, {"lora__rank": None}, "lora.rank"),
        (INFERENCE, {"lora__rank": np.uint32(0)}, "lora.rank"),
        (INFERENCE, {"lora__rank": 2.0}, "lora.rank"),
        (INFERENCE, {"lora__alpha": None}, "lora.alpha"),
        (INFERENCE, {"lora__alpha": float("inf")}, "lora.alpha"),
        (INFERENCE, {"lora__rank": np.uint32(3)}, "blk.0.attn_v"),
        ({"lora_a.blk.0.attn_v": A}, {}, "blk.0.attn_v"),
        (INFERENCE | {"lora.blk.0.attn_v.weight_a": A}, {}, "lora.blk.0.attn_v.weight_a"),
    ],
)
def test_what_makes_no_sense_is_refused_by_key(
    tmp_path: Path, tensors: dict[str, Any], keys: dict[str, Any], where: str
) -> None:
    path = write(tmp_path / "a.gguf", tensors, **keys)
    assert ZerfooLoader().recognises(path)
    with pytest.raises(FormatError) as caught:
        load(path)
    assert caught.value.where == where
    assert caught.value.remedy
