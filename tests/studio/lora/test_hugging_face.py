"""Hugging Face's names are those that lead back, and the rows those that were permuted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from studio.contracts import DeltaPart
from studio.errors import UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.lora.hugging_face import NAMES, hugging_face_module, in_hugging_face_form
from studio.lora.names import gguf_module, rows_to_gguf
from studio.lora.report import adaptable_modules

FIXTURES = sorted((Path(__file__).parents[2] / "data" / "architectures").glob("*.gguf"))


@pytest.fixture
def tiny_base() -> Iterator[GgufFile]:
    """A llama of width 64 with 4 heads."""
    base = GgufFile.open(next(path for path in FIXTURES if path.stem == "llama"))
    yield base
    base.close()


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_every_weight_of_every_architecture_goes_and_comes_back(path: Path) -> None:
    base = GgufFile.open(path)
    for module in adaptable_modules(base):
        name = hugging_face_module(module, base.architecture)
        assert name is not None
        assert gguf_module(name, base.architecture) == module
    base.close()


def test_the_fixtures_cover_the_table() -> None:
    covered = set()
    for path in FIXTURES:
        base = GgufFile.open(path)
        covered.add(base.architecture)
        base.close()
    assert covered == set(NAMES)


def test_an_unknown_architecture_is_refused_by_name() -> None:
    with pytest.raises(UnsupportedError, match="'nova' are not known"):
        hugging_face_module("blk.0.attn_q.weight", "nova")


def test_a_weight_without_a_name_is_none() -> None:
    assert hugging_face_module("blk.0.mixer.weight", "llama") is None
    assert hugging_face_module("mixer.weight", "llama") is None


def test_rows_come_back_by_the_way_the_loader_goes(tiny_base: GgufFile) -> None:
    rng = np.random.default_rng(0)
    part = DeltaPart(rng.random((2, 64), np.float32), rng.random((64, 2), np.float32), 1.5)
    name, turned = in_hugging_face_form(part, "blk.0.attn_q.weight", tiny_base)
    assert name == "model.layers.0.self_attn.q_proj"
    np.testing.assert_array_equal(rows_to_gguf(turned.b, 4), part.b)
    assert not np.array_equal(turned.b, part.b)
    _, kept = in_hugging_face_form(part, "blk.0.attn_q.weight", tiny_base, keep_rows=True)
    assert kept is part
    _, value = in_hugging_face_form(part, "blk.0.attn_v.weight", tiny_base)
    assert value is part


def test_a_module_that_hugging_face_lacks_is_named(tiny_base: GgufFile) -> None:
    part = DeltaPart(np.zeros((1, 1), np.float32), np.zeros((1, 1), np.float32), 1.0)
    with pytest.raises(UnsupportedError, match="has no module for it") as caught:
        in_hugging_face_form(part, "blk.0.mixer.weight", tiny_base)
    assert caught.value.where == "blk.0.mixer.weight"
