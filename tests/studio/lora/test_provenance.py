"""What an export says it was made of, and the files that it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from studio.api import Combination, ExportRequest, GgufFile, algebra
from studio.contracts import BlendState, Gains
from studio.lora.adapter import Adapter
from studio.lora.dora import DoraAdapter
from studio.lora.provenance import files_in_use, request_provenance, source_name, source_of
from studio.lora.stack import LoraStack

MakeAdapter = Callable[..., Adapter]

Q = "blk.0.attn_q.weight"


def request_of(base: GgufFile, *adapters: Any) -> ExportRequest:
    stack = LoraStack()
    for adapter in adapters:
        stack.push(adapter, 0.5)
    return ExportRequest(base, stack.by_key, stack.blend)


def test_adapters_are_named_by_their_files_dora_as_well(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    plain, dora = make_adapter("plain", {Q: (576, 576)}), make_adapter("dora", {Q: (576, 576)})
    dora.source = Path("/somewhere/folder")
    with_magnitudes = DoraAdapter(dora, {Q: np.ones(576, np.float32)})
    assert (source_of(plain), source_name(plain)) == (None, "plain")
    assert source_name(with_magnitudes) == "folder"
    request = request_of(smollm2, plain, with_magnitudes)
    assert files_in_use(request) == [smollm2.path, Path("/somewhere/folder")]
    assert request_provenance(request) == {
        "base": smollm2.path.name,
        "adapters": [{"adapter": "plain", "scale": 0.5}, {"adapter": "folder", "scale": 0.5}],
    }


def test_gains_and_the_method_are_told(make_adapter: MakeAdapter, smollm2: GgufFile) -> None:
    request = request_of(smollm2, make_adapter("a", {Q: (576, 576)}))
    (channel,) = request.state.channels
    state = BlendState((replace(channel, gains=Gains(((Q, 0.25),))),))
    found = request_provenance(replace(request, state=state, combination=Combination(Cut(), None)))
    assert found["adapters"] == [{"adapter": "a", "scale": 0.5, "gains": {Q: 0.25}}]
    assert found["method"] == "cut"


class Cut:
    """A method of combining."""

    name = "cut"
    Options = object

    def combine(self, module: str, parts: Any, options: Any) -> Any:
        return algebra.compress(parts[0], algebra.RankLimit(1))
