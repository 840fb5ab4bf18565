"""DoRA in the engine: the logits are those of the base with its weights merged by the formula."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from studio.contracts import BlendChannel, BlendState
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.residency import Residency
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.dora import DoraAdapter
from studio.lora.report import bind

TOKENS = [3, 17, 5, 9, 30, 2]
MODULES = ("blk.0.attn_q.weight", "blk.0.attn_v.weight", "blk.1.ffn_down.weight", "output.weight")


def make_dora(base: Any, seed: int) -> DoraAdapter:
    rng = np.random.default_rng(seed)
    factors, magnitudes = {}, {}
    for module in MODULES:
        weight = base.dense(module if module in base.tensors else "token_embd.weight")
        a = rng.standard_normal((3, weight.shape[1]), np.float32)
        factors[module] = LoraFactors(a, rng.standard_normal((weight.shape[0], 3), np.float32), 0.7)
        norms = np.linalg.norm(weight, axis=1)
        magnitudes[module] = norms * rng.uniform(0.7, 1.3, len(norms)).astype(np.float32)
    return bind(DoraAdapter(Adapter("dora", factors), magnitudes), base)[0]


@pytest.mark.parametrize("residency", ["dense", "quantised"])
@pytest.mark.parametrize("kind", [{}, {"tied": False, "biased": True}], ids=["tied", "with biases"])
def test_live_is_the_merged_model(tiny_base: Callable[..., Any], kind: Any, residency: Residency) -> None:
    base = tiny_base(**kind)
    dora = make_dora(base, seed=1)
    rng = np.random.default_rng(2)
    plain = Adapter(
        "plain",
        {
            MODULES[1]: LoraFactors(
                rng.standard_normal((2, 24), np.float32), rng.standard_normal((8, 2), np.float32), 1.0
            )
        },
    )
    engine = LocalEngine(choose_backend("numpy"), residency)
    engine.open(base)
    engine.attach({"d": dora, "p": plain})
    states = [
        BlendState((BlendChannel("d", dora.version, scale), BlendChannel("p", plain.version, 0.5)))
        for scale in (1.0, -0.4)
    ]
    found = [evaluation.logits for evaluation in engine.evaluate_many(TOKENS, states)]

    for logits, scale in zip(found, (1.0, -0.4), strict=True):
        arrays = dict(base.arrays)
        arrays.setdefault("output.weight", arrays["token_embd.weight"])  # the head alone: embeddings stay
        for module in MODULES:
            arrays[module] = arrays[module] + dora.dense_delta_at(module, scale)
        pair = plain.factors[MODULES[1]]
        arrays[MODULES[1]] = arrays[MODULES[1]] + 0.5 * pair.scaling * pair.b @ pair.a
        merged = LocalEngine(choose_backend("numpy"), residency)
        merged.open(replace(base, arrays=arrays))
        wanted = merged.evaluate(TOKENS, BlendState()).logits
        assert np.linalg.norm(logits - wanted) / np.linalg.norm(wanted) < 1e-5
