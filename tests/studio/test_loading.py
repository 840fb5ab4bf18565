"""Opening by content, with the plugins that are installed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.errors import FormatError, MismatchError
from studio.formats.gguf_writer import write_gguf
from studio.loading import load_adapter, load_base
from studio.lora.adapter import Adapter


def test_a_base_is_opened_by_its_content(smollm2_path: Path, tmp_path: Path) -> None:
    link = tmp_path / "model.bin"
    link.symlink_to(smollm2_path)
    base = load_base(link)
    assert base.architecture == "llama"
    base.close()


def test_an_adapter_is_checked_against_its_base(
    smollm2_path: Path, adapters_dir: Path, tmp_path: Path
) -> None:
    base = load_base(smollm2_path)
    adapter = load_adapter(adapters_dir / "smollm2-fortune", base)
    assert isinstance(adapter, Adapter)
    assert (adapter.n_weights, adapter.trainable) == (210, False)
    assert adapter.has_layer("blk.0.attn_q.weight") and not adapter.has_layer("blk.0.attn_norm.weight")
    keys: dict[str, Any] = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 2.0}
    tensors = {
        f"blk.0.attn_q.weight.lora_{half}": np.ones(shape, np.float32)
        for half, shape in (("a", (2, 576)), ("b", (576, 2)))
    }
    for architecture, says in (("qwen2", "is for architecture qwen2"), ("llama", "")):
        write_gguf(tmp_path / "one.gguf", {"general.architecture": architecture, **keys}, tensors)
        if says:
            with pytest.raises(MismatchError, match=says):
                load_adapter(tmp_path / "one.gguf", base)
        else:
            one = load_adapter(tmp_path / "one.gguf", base)
            assert isinstance(one, Adapter) and one.alpha == 2.0
    base.close()


def test_what_is_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"nothing")
    for load in (load_base, load_adapter):
        with pytest.raises(FormatError, match="neither a base nor an adapter"):
            load(tmp_path / "a.gguf")


def test_options_go_to_the_loader(smollm2_path: Path, adapters_dir: Path) -> None:
    base, name = load_base(smollm2_path), "blk.0.attn_q.weight"
    plain, kept = (
        load_adapter(adapters_dir / "smollm2-fortune", base, options={"row_order": order})
        for order in ("auto", "as stored")
    )
    assert isinstance(plain, Adapter) and isinstance(kept, Adapter)
    assert not np.array_equal(plain.factors[name].b, kept.factors[name].b)
    base.close()
