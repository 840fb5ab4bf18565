"""Adapters saved as GGUF and read again."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from studio.errors import MismatchError, SaveError
from studio.formats.gguf_file import GgufFile
from studio.loading import load_adapter
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.injection import inject_lora
from studio.lora.layers import BaseLayers
from studio.lora.linear import LoraLinear
from studio.lora.saving import save_adapter

SHAPES = {"token_embd.weight": (9, 4), "blk.0.attn_q.weight": (6, 4), "blk.0.ffn_up_exps.weight": (3, 6, 4)}


def test_what_is_saved_is_read_again_to_the_bit(make_adapter: Callable[..., Adapter], tmp_path: Path) -> None:
    adapter = make_adapter("pirate", SHAPES, rank=3, alpha=5.0, architecture="llama")
    save_adapter(tmp_path / "pirate.gguf", adapter)
    again = load_adapter(tmp_path / "pirate.gguf")
    assert isinstance(again, Adapter)
    assert (again.name, again.architecture, again.alpha) == ("pirate", "llama", 5.0)
    assert again.layer_names == adapter.layer_names
    for module in SHAPES:
        for half in ("a", "b"):
            np.testing.assert_array_equal(
                again.get_weight(module, half).value, adapter.get_weight(module, half).value
            )


def test_modules_that_are_scaled_differently_keep_their_deltas(
    make_adapter: Callable[..., Adapter], tmp_path: Path
) -> None:
    pairs = make_adapter(
        "mixed", {f"blk.{layer}.attn_q.weight": (6, 4) for layer in range(3)}, rank=2
    ).factors
    factors = {
        module: LoraFactors(pair.a, pair.b, alpha, rank_stabilised=stabilised)
        for (module, pair), alpha, stabilised in zip(
            pairs.items(), (0.0, 3.0, 3.0), (False, False, True), strict=True
        )
    }
    save_adapter(tmp_path / "mixed.gguf", Adapter("mixed", factors), architecture="llama")
    again = load_adapter(tmp_path / "mixed.gguf")
    assert isinstance(again, Adapter)
    for module, pair in factors.items():
        found = again.factors[module]
        wanted = pair.scaling * (pair.b.astype(np.float64) @ pair.a)
        np.testing.assert_allclose(found.scaling * (found.b.astype(np.float64) @ found.a), wanted, rtol=1e-6)


def test_an_adapter_of_silence_is_silent_again(make_adapter: Callable[..., Adapter], tmp_path: Path) -> None:
    """An alpha of 0 means a scale of 1 to llama.cpp."""
    adapter = make_adapter("mute", {"blk.0.attn_q.weight": (6, 4)}, alpha=0.0, architecture="llama")
    save_adapter(tmp_path / "mute.gguf", adapter)
    delta = load_adapter(tmp_path / "mute.gguf").delta("blk.0.attn_q.weight", np.ones((1, 4), np.float32))
    assert delta is not None and not delta.any()


def test_the_lora_of_a_model_is_saved_and_loaded_into_another(smollm2: GgufFile, tmp_path: Path) -> None:
    path = tmp_path / "trained.gguf"
    models = []
    for seed in (1, 2):
        model = BaseLayers(smollm2)
        inject_lora(model, 2, 8.0, ["attn_v"], seed=seed)
        models.append(model)
    name = "blk.4.attn_v.weight"
    trained, fresh = (model.layers[name] for model in models)
    assert isinstance(trained, LoraLinear) and isinstance(fresh, LoraLinear)
    trained.lora_b = np.random.default_rng(0).standard_normal((192, 2), dtype=np.float32)
    save_adapter(path, models[0])
    loaded = load_adapter(path, smollm2, model=models[1])
    assert isinstance(loaded, Adapter)
    assert loaded.n_weights == 30
    np.testing.assert_array_equal(fresh.lora_a, trained.lora_a)
    np.testing.assert_array_equal(fresh.lora_b, trained.lora_b)
    assert fresh.scaling == 4


def test_only_gguf_is_written(make_adapter: Callable[..., Adapter], tmp_path: Path) -> None:
    adapter = make_adapter("pirate", SHAPES, architecture="llama")
    with pytest.raises(SaveError, match="ends in .gguf"):
        save_adapter(tmp_path / "pirate.safetensors", adapter)
    assert list(tmp_path.iterdir()) == []


def test_what_is_not_known_is_asked_for(make_adapter: Callable[..., Adapter], tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="Give architecture="):
        save_adapter(tmp_path / "a.gguf", make_adapter("pirate", SHAPES))
    with pytest.raises(MismatchError, match="Load it for its base"):
        save_adapter(tmp_path / "a.gguf", make_adapter("pirate", SHAPES, rows_as_stored=True))
    assert list(tmp_path.iterdir()) == []
