"""zerfoo's dialects, by its documentation: delta = lora.alpha / lora.rank * B @ A for every layer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.api import ExportRequest, GgufFile, UnsupportedError
from studio.lora.stack import LoraStack
from studio_zerfoo.exporter import ZerfooExporter, ZerfooOptions

SmallBase = Callable[..., GgufFile]
MakeBlend = Callable[..., LoraStack]
Deltas = Callable[[LoraStack, str], Any]

MODULES = [f"blk.{layer}.{name}.weight" for layer in (0, 1) for name in ("attn_q", "ffn_up")]


def export(base: GgufFile, stack: LoraStack, path: Path, dialect: Any = "training") -> GGUFReader:
    request = ExportRequest(base, stack.by_key, stack.blend)
    list(ZerfooExporter().export(request, path, ZerfooOptions(dialect)))
    return GGUFReader(path)


@pytest.mark.parametrize(
    ("dialect", "architecture", "a", "b"),
    [
        ("training", "lora", "lora.blk.0.attn_q.weight_a", "lora.blk.0.attn_q.weight_b"),
        ("inference", "llama", "lora_a.blk.0.attn_q", "lora_b.blk.0.attn_q"),
    ],
)
def test_names_and_keys(
    small_base: SmallBase,
    make_blend: MakeBlend,
    tmp_path: Path,
    dialect: str,
    architecture: str,
    a: str,
    b: str,
) -> None:
    reader = export(small_base(), make_blend(({MODULES[0]: 3}, 0.5)), tmp_path / "z.gguf", dialect)
    keys = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    assert keys == {"general.architecture": architecture, "lora.rank": 3, "lora.alpha": 3.0}
    assert reader.fields["lora.rank"].types[0].name == "UINT32"
    assert reader.fields["lora.alpha"].types[0].name == "FLOAT32"
    shapes = {one.name: tuple(map(int, reversed(one.shape))) for one in reader.tensors}
    assert shapes == {a: (3, 16), b: (16, 3)}
    assert {one.tensor_type.name for one in reader.tensors} == {"F32"}


ranks = st.dictionaries(st.sampled_from(MODULES), st.integers(1, 5), min_size=1)


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    adapters=st.lists(st.tuples(ranks, st.sampled_from([0.3, 1.0, -1.5])), min_size=1, max_size=3),
    dialect=st.sampled_from(["training", "inference"]),
)
def test_any_blend_is_what_zerfoo_computes(
    small_base: SmallBase,
    make_blend: MakeBlend,
    dense_blend: Deltas,
    tmp_path_factory: pytest.TempPathFactory,
    adapters: list[tuple[dict[str, int], float]],
    dialect: str,
) -> None:
    stack = make_blend(*adapters)
    reader = export(small_base(), stack, tmp_path_factory.mktemp("zerfoo") / "z.gguf", dialect)
    tensors = {one.name: one.data.astype(np.float64) for one in reader.tensors}
    rank, alpha = (reader.fields[key].contents() for key in ("lora.rank", "lora.alpha"))
    for module in {module for own, _ in adapters for module in own}:
        layer = module.removesuffix(".weight")
        names = [
            f"lora.{layer}.weight_{half}" if dialect == "training" else f"lora_{half}.{layer}"
            for half in "ab"
        ]
        a, b = (tensors[name] for name in names)
        assert a.shape[0] == b.shape[1] == rank
        wanted = dense_blend(stack, module)
        assert np.linalg.norm(alpha / rank * b @ a - wanted) <= 1e-5 * np.linalg.norm(wanted)


@pytest.mark.parametrize("module", ["token_embd.weight", "blk.1.ffn_up_exps.weight"])
def test_what_is_no_linear_module_is_refused(
    small_base: SmallBase, make_blend: MakeBlend, tmp_path: Path, module: str
) -> None:
    with pytest.raises(UnsupportedError, match="linear modules alone"):
        export(small_base(), make_blend(({module: 2}, 1.0)), tmp_path / "z.gguf")
