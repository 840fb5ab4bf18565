"""Tensors written one by one are what the safetensors package and our own reader read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.numpy import load_file

from studio.errors import SaveError
from studio.formats.safetensors_file import read_safetensors, read_safetensors_header
from studio.formats.safetensors_writer import PendingTensor, SafetensorsType, write_safetensors


def write(path: Path, tensors: Mapping[str, Any], kind: SafetensorsType = "F32") -> None:
    pending = {name: PendingTensor.of(np.asarray(values, np.float32)) for name, values in tensors.items()}
    list(write_safetensors(path, pending, kind))


shapes = st.lists(st.integers(1, 5), min_size=1, max_size=3).map(tuple)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(content=st.dictionaries(st.text("abc.é", min_size=1, max_size=8), shapes, min_size=1, max_size=5))
def test_the_package_reads_what_was_written(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, tuple[int, ...]]
) -> None:
    rng = np.random.default_rng(0)
    tensors = {name: rng.standard_normal(shape, np.float32) for name, shape in content.items()}
    path = tmp_path_factory.mktemp("write") / "model.safetensors"
    write(path, tensors)
    for found in (load_file(path), read_safetensors(path)):
        assert found.keys() == tensors.keys()
        for name, values in tensors.items():
            np.testing.assert_array_equal(found[name], values)


@pytest.mark.parametrize(("kind", "bits"), [("F32", 24), ("F16", 11), ("BF16", 8)])
def test_every_type_rounds_to_its_own_digits(tmp_path: Path, kind: SafetensorsType, bits: int) -> None:
    values = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    write(tmp_path / "a.safetensors", {"w": values}, kind)
    assert read_safetensors_header(tmp_path / "a.safetensors")["w"].type_name == kind
    found = read_safetensors(tmp_path / "a.safetensors")["w"]
    assert np.abs(found - values).max() <= 2.0**-bits * np.abs(values).max()


def test_the_header_says_what_transformers_asks_for(tmp_path: Path) -> None:
    write(tmp_path / "a.safetensors", {"w": np.ones(3)})
    with safe_open(tmp_path / "a.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}


@pytest.mark.parametrize(
    ("kind", "value", "message"),
    [
        ("F32", np.nan, "1 of 2 values are not finite"),
        ("F16", 1e6, "1 of 2 values are too large for F16"),
        ("BF16", 3.4e38, "1 of 2 values are too large for BF16"),
    ],
)
def test_what_the_type_cannot_hold_is_named(
    tmp_path: Path, kind: SafetensorsType, value: float, message: str
) -> None:
    with pytest.raises(SaveError, match=message) as caught:
        write(tmp_path / "a.safetensors", {"good": np.ones(2), "bad": np.array([1.0, value])}, kind)
    assert caught.value.where == "bad"


def test_a_tensor_is_made_when_its_turn_comes_and_once(tmp_path: Path) -> None:
    made: list[str] = []

    def pending(name: str) -> PendingTensor:
        def make() -> Any:
            made.append(name)
            return np.zeros((2, 2), np.float32)

        return PendingTensor((2, 2), make)

    steps = write_safetensors(tmp_path / "a.safetensors", {name: pending(name) for name in "xy"})
    next(steps)
    assert made == []
    next(steps)
    assert made == ["x"]
    list(steps)
    assert made == ["x", "y"]
