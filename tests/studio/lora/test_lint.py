"""The linter: every rule speaks where it should, of the right programs, and is silent elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.contracts import Finding
from studio.formats.gguf_file import GgufFile
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.lint import lint
from studio.lora.report import bind, describe

MakeAdapter = Callable[..., Adapter]

Q, V = "blk.0.attn_q.weight", "blk.0.attn_v.weight"
SHAPES: dict[str, tuple[int, ...]] = {Q: (576, 576), V: (192, 576)}


def factors(module: str, rank: int = 2, alpha: float = 4.0, stabilised: bool = False) -> LoraFactors:
    out, inputs = SHAPES.get(module, (49152, 576))
    return LoraFactors(
        np.ones((rank, inputs), np.float32), np.ones((out, rank), np.float32), alpha, stabilised
    )


def topics(adapter: Adapter, base: GgufFile | None = None) -> dict[str, Finding]:
    report = describe(adapter) if base is None else bind(adapter, base)[1]
    return {finding.topic: finding for finding in report.findings}


def test_a_plain_adapter_is_read_alike_everywhere(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    assert topics(make_adapter("plain", SHAPES), smollm2) == {}


def test_rslora_is_too_weak_elsewhere_and_right_here() -> None:
    """alpha / sqrt(rank), where a converter's alpha / rank is sqrt(16) = 4 times too weak."""
    adapter = Adapter("rs", {Q: factors(Q, 16, 16.0, stabilised=True), V: factors(V, 4, 16.0)})
    finding = topics(adapter)["rslora"]
    assert adapter.factors[Q].scaling == 4
    assert (finding.severity, finding.where) == ("warning", (Q,))
    assert "4 times too weak" in dict(finding.programs)["llama.cpp"]


def test_alphas_and_ranks_that_differ_are_told_and_kept() -> None:
    adapter = Adapter("patterns", {Q: factors(Q, 2, 4.0), V: factors(V, 8, 2.0)})
    assert (adapter.factors[Q].scaling, adapter.factors[V].scaling) == (2.0, 0.25)
    found = topics(adapter)
    assert list(found) == ["alpha-pattern", "unequal-ranks"]
    assert "from 2 to 4" in found["alpha-pattern"].message
    assert "from 2 to 8" in found["unequal-ranks"].message
    assert {"llama.cpp", "oxillama", "MLX"} == set(dict(found["alpha-pattern"].programs))


def test_an_alpha_of_0_is_silence() -> None:
    adapter = Adapter("silent", {V: factors(V, alpha=0.0)})
    delta = adapter.delta(V, np.ones((1, 576), np.float32))
    assert delta is not None and not delta.any()
    assert topics(adapter)["zero-alpha"].where == (V,)


@pytest.mark.parametrize(
    ("module", "topic", "program"),
    [("output.weight", "tied-output", "llama.cpp"), ("token_embd.weight", "tied-embedding", "MLX")],
)
def test_tied_weights_are_told_where_the_base_ties_them(
    smollm2: GgufFile, module: str, topic: str, program: str
) -> None:
    adapter = Adapter("head", {module: factors(module)})
    found = topics(adapter, smollm2)
    assert list(found) == [topic]
    assert program in dict(found[topic].programs)
    assert "Merge" in found[topic].remedy
    assert topics(adapter) == {}


def test_modules_without_a_place_are_listed(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    adapter = make_adapter("odd", SHAPES | {"blk.99.attn_q.weight": (2, 2)}, unmapped=["vision.0"])
    finding = topics(adapter, smollm2)["unmatched"]
    assert finding.where == ("blk.99.attn_q.weight", "vision.0")
    assert topics(adapter)["unmatched"].where == ("vision.0",)


def test_what_a_loader_knows_comes_first_where_it_is_graver(make_adapter: MakeAdapter) -> None:
    own = (Finding("small", "info", "x"), Finding("grave", "error", "y"))
    adapter = make_adapter("odd", SHAPES, unmapped=["vision.0"], findings=own)
    assert [finding.topic for finding in lint(adapter, None, ())] == ["grave", "unmatched", "small"]


def test_findings_stay_when_an_adapter_is_bound(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    own: Any = Finding("dialect", "info", "x")
    adapter = make_adapter("odd", SHAPES | {"blk.99.attn_q.weight": (2, 2)}, findings=[own])
    bound, report = bind(adapter, smollm2)
    assert bound.findings == (own,)
    assert own in report.findings
