"""PEFT's DoRA is read with its magnitudes, in every form of their keys, and never as plain LoRA."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import DoraAdapter, FormatError, GgufFile, UnsupportedError, rows_to_gguf
from studio_peft.loader import PeftLoader, PeftOptions

SmallBase = Callable[..., GgufFile]
WritePeft = Callable[..., Path]

Q = "base_model.model.model.layers.0.self_attn.q_proj"
RNG = np.random.default_rng(0)
A, B = RNG.standard_normal((2, 16), np.float32), RNG.standard_normal((16, 2), np.float32)
PAIR = {f"{Q}.lora_A.weight": A, f"{Q}.lora_B.weight": B}
MAGNITUDE = np.arange(1, 17, dtype=np.float32)


def load(path: Path, base: GgufFile | None) -> Any:
    return PeftLoader().load(path, base, PeftOptions())


@pytest.mark.parametrize("suffix", ["", ".weight", ".default", ".default.weight"])
def test_magnitudes_come_in_the_order_of_the_bases_rows(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, suffix: str
) -> None:
    tensors = PAIR | {f"{Q}.lora_magnitude_vector{suffix}": MAGNITUDE}
    adapter = load(write_peft(tmp_path, tensors, use_dora=True), small_base())
    assert isinstance(adapter, DoraAdapter)
    wanted = rows_to_gguf(MAGNITUDE[:, None], 4)[:, 0]
    np.testing.assert_array_equal(adapter.magnitudes["blk.0.attn_q.weight"], wanted)
    assert not hasattr(adapter, "factors")  # so nothing takes it for plain LoRA


@pytest.mark.parametrize(
    ("tensors", "use_dora", "message"),
    [
        (PAIR, True, "magnitude is missing"),
        (PAIR | {f"{Q}.lora_magnitude_vector": MAGNITUDE}, False, "use_dora is not set"),
        (PAIR | {"x.lora_magnitude_vector": MAGNITUDE}, True, "without its pair"),
        (PAIR | {f"{Q}.lora_magnitude_vector": MAGNITUDE[:3]}, True, "rows"),
    ],
)
def test_magnitudes_that_contradict_the_rest_are_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, tensors: Any, use_dora: bool, message: str
) -> None:
    with pytest.raises(FormatError, match=message):
        load(write_peft(tmp_path, tensors, use_dora=use_dora), small_base("qwen2"))


def test_dora_on_an_embedding_is_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    module = "base_model.model.model.embed_tokens"
    tensors = {
        f"{module}.lora_embedding_A": np.ones((2, 32), np.float32),
        f"{module}.lora_embedding_B": np.ones((16, 2), np.float32),
        f"{module}.lora_magnitude_vector": np.ones(16, np.float32),
    }
    with pytest.raises(UnsupportedError, match="embedding"):
        load(write_peft(tmp_path, tensors, use_dora=True), small_base())
