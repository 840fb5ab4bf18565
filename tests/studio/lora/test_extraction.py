"""An adapter out of a base and a tuned model, as GGUF or as a Hugging Face folder."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.errors import FormatError, MismatchError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf
from studio.lora.algebra import RankLimit
from studio.lora.extraction import extract
from studio.lora.names import rows_to_hugging_face
from studio.lora.tuned_weights import HuggingFaceWeights

SHAPES: dict[str, tuple[int, ...]] = {
    "token_embd.weight": (30, 16),
    "blk.0.attn_norm.weight": (16,),
    "blk.0.attn_q.weight": (16, 16),
    "blk.0.attn_k.weight": (8, 16),
    "blk.0.ffn_up.weight": (24, 16),
    "blk.0.ffn_down_exps.weight": (3, 16, 24),
}
NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "blk.0.attn_norm.weight": "model.layers.0.input_layernorm.weight",
    "blk.0.attn_q.weight": "model.layers.0.self_attn.q_proj.weight",
    "blk.0.attn_k.weight": "model.layers.0.self_attn.k_proj.weight",
    "blk.0.ffn_up.weight": "model.layers.0.mlp.up_proj.weight",
}
HEADS = {"blk.0.attn_q.weight": 4, "blk.0.attn_k.weight": 2}
METADATA: Any = {
    "general.architecture": "llama",
    "llama.attention.head_count": 4,
    "llama.attention.head_count_kv": 2,
}


def done(work: Generator[Any, None, Any]) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def write(path: Path, weights: dict[str, Any], **metadata: Any) -> GgufFile:
    write_gguf(path, METADATA | metadata, weights)
    return GgufFile.open(path)


@pytest.fixture
def weights() -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {name: random.standard_normal(shape, np.float32) for name, shape in SHAPES.items()}


@pytest.fixture
def changes() -> dict[str, Any]:
    """Differences of rank 3 in some of the weights."""
    random = np.random.default_rng(1)
    return {
        name: random.standard_normal((*SHAPES[name][:-1], 3), np.float32)
        @ random.standard_normal((*SHAPES[name][:-2], 3, SHAPES[name][-1]), np.float32)
        for name in SHAPES
        if name not in ("blk.0.attn_norm.weight", "token_embd.weight")
    }


def tuned(weights: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    return {name: values + changes.get(name, 0) for name, values in weights.items()}


def test_changes_of_a_low_rank_are_found_whole(tmp_path: Path, weights: Any, changes: Any) -> None:
    base = write(tmp_path / "base.gguf", weights)
    other = write(
        tmp_path / "tuned.gguf", tuned(weights, changes) | {"blk.0.attn_norm.weight": np.ones(16, "f4")}
    )
    adapter = done(extract(base, other, RankLimit(3)))
    assert set(adapter.modules) == set(changes)
    assert adapter.notes == ("Changed as well, but no adapter holds vectors: blk.0.attn_norm.weight",)
    for name, change in changes.items():
        pair = adapter.factors[name]
        found = pair.scaling * pair.b @ pair.a
        assert np.linalg.norm(found - change) < 1e-5 * np.linalg.norm(change)
    assert done(extract(base, other, RankLimit(1))).ranks == (1,)
    assert max(done(extract(base, other, RankLimit(energy=0.9))).ranks) <= 3
    base.close()
    other.close()


def test_what_a_format_cannot_act_on_is_left_out_and_told(tmp_path: Path, weights: Any, changes: Any) -> None:
    embedding = 0.001 * np.ones(SHAPES["token_embd.weight"], np.float32)
    base = write(tmp_path / "base.gguf", weights)
    other = write(tmp_path / "tuned.gguf", tuned(weights, changes | {"token_embd.weight": embedding}))
    assert "token_embd.weight" in done(extract(base, other, RankLimit(3))).modules
    adapter = done(extract(base, other, RankLimit(3), {"token_embd.weight"}))
    assert set(adapter.modules) == set(changes)
    (note,) = adapter.notes
    share = np.linalg.norm(embedding) / np.linalg.norm(
        np.concatenate([one.reshape(-1) for one in (*changes.values(), embedding)])
    )
    assert note.startswith(f"token_embd.weight changed as well, by {100 * share:.2g}% of the norm of all")
    with pytest.raises(MismatchError, match="none changed that an adapter could hold"):
        done(extract(base, other, RankLimit(3), set(SHAPES)))
    base.close()
    other.close()


def test_a_hugging_face_folder_is_read_in_the_bases_order(tmp_path: Path, weights: Any, changes: Any) -> None:
    base = write(tmp_path / "base.gguf", weights)
    tensors = {
        NAMES[name]: rows_to_hugging_face(values, HEADS[name]) if name in HEADS else values
        for name, values in tuned(weights, changes).items()
        if name in NAMES
    }
    first, *rest = tensors
    folder = tmp_path / "tuned"
    folder.mkdir()
    save_file({first: tensors[first]}, folder / "model-00001-of-00002.safetensors")
    half = {
        key: tensors[key].astype(ml_dtypes.bfloat16) if "up_proj" in key else tensors[key] for key in rest
    }
    save_file(half | {"lm_head.weight": np.ones((30, 16), "f4")}, folder / "model-00002-of-00002.safetensors")
    adapter = done(extract(base, HuggingFaceWeights(folder, base), RankLimit(3)))
    assert set(adapter.modules) == {name for name in changes if name in NAMES}
    for name in adapter.modules:
        pair, bound = adapter.factors[name], 1e-5 if "ffn_up" not in name else 1e-2
        found = pair.scaling * pair.b @ pair.a
        assert np.linalg.norm(found - changes[name]) < bound * np.linalg.norm(changes[name])
    base.close()


def test_models_that_do_not_belong_together_are_refused(tmp_path: Path, weights: Any) -> None:
    base = write(tmp_path / "base.gguf", weights)
    with pytest.raises(MismatchError, match=r"none changed that an adapter could hold"):
        done(extract(base, base, RankLimit(3)))
    small = write(tmp_path / "small.gguf", {"blk.0.ffn_up.weight": np.ones((4, 16), "f4")})
    with pytest.raises(MismatchError, match=r"small\.gguf: blk\.0\.ffn_up\.weight: the weight is \(4, 16\)"):
        done(extract(base, small, RankLimit(3)))
    folder = tmp_path / "empty"
    folder.mkdir()
    with pytest.raises(FormatError, match=r"holds no \*\.safetensors"):
        HuggingFaceWeights(folder, base)
    save_file({"unknown.weight": np.ones((2, 2), "f4")}, folder / "model.safetensors")
    with pytest.raises(MismatchError, match=r"none of its weights"):
        HuggingFaceWeights(folder, base)
    save_file({NAMES["blk.0.ffn_up.weight"]: np.full((24, 16), np.nan, "f4")}, folder / "model.safetensors")
    with pytest.raises(MismatchError, match=r"blk\.0\.ffn_up\.weight: NaN or infinity"):
        done(extract(base, HuggingFaceWeights(folder, base), RankLimit(3)))
    save_file({NAMES["blk.0.ffn_up.weight"]: np.ones((24, 16), "f4")}, folder / "twice.safetensors")
    with pytest.raises(FormatError, match=r"two tensors hold this weight"):
        HuggingFaceWeights(folder, base)
    transposed = write(tmp_path / "gpt2.gguf", weights, **{"general.architecture": "gpt2"})
    with pytest.raises(UnsupportedError, match=r"transposed"):
        HuggingFaceWeights(folder, transposed)
    for file in (base, small, transposed):
        file.close()
