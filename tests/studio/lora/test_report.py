"""How an adapter fits a base: reports and refusals."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest

from studio.contracts import FloatArray
from studio.errors import FormatError, MismatchError
from studio.formats.gguf_file import GgufFile
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.report import adaptable_modules, bind, describe

Q, V = "blk.0.attn_q.weight", "blk.0.attn_v.weight"

MakeAdapter = Callable[..., Adapter]


def test_smollm2_has_seven_weights_a_layer_and_its_embedding(smollm2: GgufFile) -> None:
    modules = adaptable_modules(smollm2)
    assert len(modules) == 30 * 7 + 1
    assert "token_embd.weight" in modules


def test_an_adapter_that_fits_wholly_is_bound_as_it_is(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    adapter = make_adapter(
        "legal", {Q: (576, 576), V: (192, 576)}, rank=4, alpha=8, format="GGUF", notes=["Hm"]
    )
    bound, report = bind(adapter, smollm2)
    assert bound is adapter
    assert (report.name, report.format, report.notes) == ("legal", "GGUF", ("Hm",))
    assert (report.modules, report.matched, report.base_modules, report.covered) == (2, 2, 211, 2)
    assert (report.ranks, report.alphas, report.unmatched) == ((4,), (8.0,), ())
    pair = adapter.factors[V]
    assert report.norms[V] == pytest.approx(np.linalg.norm(pair.scaling * pair.b @ pair.a), rel=1e-4)


def test_what_does_not_match_is_listed_and_left_out(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    adapter = make_adapter(
        "legal", {Q: (576, 576), "blk.77.attn_q.weight": (576, 576)}, unmapped=["strange.module"]
    )
    bound, report = bind(adapter, smollm2)
    assert bound.modules == (Q,)
    assert (report.modules, report.matched) == (3, 1)
    assert report.unmatched == ("blk.77.attn_q.weight", "strange.module")


def test_an_output_that_is_tied_is_acted_on_and_told(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    adapter = make_adapter("legal", {Q: (576, 576), "output.weight": (49152, 576)}, rank=1)
    bound, report = bind(adapter, smollm2)
    assert bound is adapter
    assert (report.matched, report.covered, report.unmatched) == (
        2,
        1,
        (),
    )  # the base has no such weight itself
    assert "ties its output" in report.notes[0]


def test_a_tied_output_has_the_embeddings_shape(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    with pytest.raises(MismatchError, match=r"\(32000, 576\), the base has \(49152, 576\)"):
        bind(make_adapter("legal", {"output.weight": (32000, 576)}, rank=1), smollm2)


def test_another_shape_is_refused_with_both_shapes(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    adapter = make_adapter("legal", {Q: (2048, 576)}, source=Path("legal"))
    with pytest.raises(MismatchError, match=r"\(2048, 576\), the base has \(576, 576\)") as caught:
        bind(adapter, smollm2)
    assert (caught.value.where, caught.value.path) == (Q, Path("legal"))
    assert caught.value.remedy


def test_another_architecture_is_refused(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    with pytest.raises(MismatchError, match="architecture qwen2, .* is llama"):
        bind(make_adapter("legal", {Q: (576, 576)}, architecture="qwen2"), smollm2)


def test_an_adapter_that_matches_nothing_is_refused(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    adapter = make_adapter("legal", {"blk.40.attn_q.weight": (8, 8)}, unmapped=["strange.module"])
    with pytest.raises(
        MismatchError, match=r"0 of 2 modules matched .*blk\.40\.attn_q\.weight, strange\.module"
    ):
        bind(adapter, smollm2)


def test_an_empty_adapter_is_refused_as_empty(smollm2: GgufFile) -> None:
    with pytest.raises(FormatError, match="holds no modules"):
        bind(Adapter("empty", {}), smollm2)


def test_rows_in_an_unknown_order_are_never_bound(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    with pytest.raises(MismatchError, match="read without a base"):
        bind(make_adapter("legal", {Q: (576, 576)}, rows_as_stored=True), smollm2)


def test_describing_needs_no_base(make_adapter: MakeAdapter) -> None:
    report = describe(make_adapter("legal", {Q: (6, 4)}, unmapped=["strange.module"]))
    assert (report.modules, report.matched, report.base_modules, report.covered) == (2, None, None, None)
    assert report.unmatched == ("strange.module",)


class Stranger:
    """A loader's own adapter class, which shows its factors."""

    def __init__(self, factors: Mapping[str, LoraFactors]) -> None:
        self.name = "stranger"
        self.version = 1
        self.modules = tuple(factors)
        self.factors = factors

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        return None


def test_a_strangers_low_rank_adapter_is_bound_like_our_own(
    make_adapter: MakeAdapter, smollm2: GgufFile
) -> None:
    own = make_adapter("legal", {Q: (576, 576)})
    bound, report = bind(Stranger(own.factors), smollm2)
    assert report.matched == 1
    assert bound.factors[Q].scaling == own.factors[Q].scaling
