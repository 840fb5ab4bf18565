"""What an export writes: checked against the base, and joined without loss."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from studio.contracts import (
    BlendState,
    Combination,
    CombinedDelta,
    DeltaPart,
    ExportRequest,
    Gains,
    TensorInfo,
)
from studio.errors import MismatchError, StudioError, UnsupportedError
from studio.lora.adapter import Adapter
from studio.lora.exported import (
    exported_modules,
    exported_parts,
    join_parts,
    pad_rank,
)
from studio.lora.stack import LoraStack

MakeAdapter = Callable[..., Adapter]

SHAPES = {"token_embd.weight": (7, 4), "blk.0.ffn_up.weight": (6, 4), "blk.0.attn_q.weight": (4, 4)}


def base_of(shapes: Mapping[str, tuple[int, ...]]) -> Any:
    """Return as much of a base as is asked for here."""
    tensors = {name: TensorInfo(name, shape, "F32", 0) for name, shape in shapes.items()}
    return SimpleNamespace(
        name="small", tensors=tensors, architecture="llama", path=SimpleNamespace(name="b")
    )


def request_of(
    *adapters: tuple[Adapter, float], shapes: Mapping[str, tuple[int, ...]] = SHAPES
) -> ExportRequest:
    stack = LoraStack()
    for adapter, scale in adapters:
        stack.push(adapter, scale)
    return ExportRequest(base_of(shapes), stack.by_key, stack.blend)


def dense(parts: tuple[DeltaPart, ...] | list[DeltaPart]) -> Any:
    return sum(part.scale * (part.b.astype(np.float64) @ part.a) for part in parts)


def test_modules_come_in_the_bases_order(make_adapter: MakeAdapter) -> None:
    first = make_adapter("a", {"blk.0.attn_q.weight": (4, 4)})
    second = make_adapter("b", {"blk.0.ffn_up.weight": (6, 4)})
    assert exported_modules(request_of((first, 1), (second, 1))) == [
        "blk.0.ffn_up.weight",
        "blk.0.attn_q.weight",
    ]


def with_gains(request: ExportRequest, gains: dict[str, float]) -> ExportRequest:
    channels = tuple(replace(channel, gains=Gains.of(gains)) for channel in request.state.channels)
    return replace(request, state=BlendState(channels))


def test_a_gain_of_0_leaves_the_module_out_and_another_scales_it(make_adapter: MakeAdapter) -> None:
    adapter = make_adapter("a", {"blk.0.attn_q.weight": (4, 4), "blk.0.ffn_up.weight": (6, 4)})
    request = with_gains(request_of((adapter, 2)), {"blk.0.attn_q.weight": 0, "blk.0.ffn_up.weight": 0.5})
    assert exported_modules(request) == ["blk.0.ffn_up.weight"]
    (part,) = exported_parts(request, "blk.0.ffn_up.weight")
    assert part.scale == 2 * 0.5 * adapter.factors["blk.0.ffn_up.weight"].scaling
    with pytest.raises(StudioError, match="silent"):
        exported_modules(with_gains(request, dict.fromkeys(adapter.modules, 0.0)))


def test_what_does_not_fit_the_base_is_refused(make_adapter: MakeAdapter) -> None:
    with pytest.raises(MismatchError, match="small lacks"):
        exported_modules(request_of((make_adapter("a", {"blk.9.attn_q.weight": (4, 4)}), 1)))
    with pytest.raises(MismatchError, match=r"for a weight \(5, 4\)"):
        exported_modules(request_of((make_adapter("a", {"blk.0.attn_q.weight": (5, 4)}), 1)))


def test_a_tied_output_is_for_formats_that_can_hold_it(make_adapter: MakeAdapter) -> None:
    request = request_of((make_adapter("a", {"output.weight": (7, 4)}), 1))
    with pytest.raises(MismatchError, match="ties its output") as caught:
        exported_modules(request)
    assert "PEFT directory" in str(caught.value.remedy)
    assert exported_modules(request, tied_output=True) == ["output.weight"]


class Method:
    """A method that gives what it was told to."""

    name = "told"
    Options = object

    def __init__(self, result: CombinedDelta) -> None:
        self.result = result

    def combine(self, module: str, parts: Any, options: Any) -> CombinedDelta:
        return self.result


def test_a_method_decides_and_its_dense_delta_is_refused(make_adapter: MakeAdapter) -> None:
    request = request_of((make_adapter("a", {"blk.0.attn_q.weight": (4, 4)}), 1))
    part = DeltaPart(np.ones((1, 4), np.float32), np.ones((4, 1), np.float32), 1.0)
    combined = replace(request, combination=Combination(Method(part), None))
    assert exported_parts(combined, "blk.0.attn_q.weight") == (part,)
    assert exported_parts(combined, "blk.0.ffn_up.weight") == ()
    whole = replace(request, combination=Combination(Method(np.ones((4, 4), np.float32)), None))
    with pytest.raises(UnsupportedError, match="told gives a delta of full rank"):
        exported_parts(whole, "blk.0.attn_q.weight")


@pytest.mark.parametrize("alpha", [None, 3.0])
def test_joined_parts_are_their_sum(make_adapter: MakeAdapter, alpha: float | None) -> None:
    request = request_of(
        (make_adapter("a", {"blk.0.ffn_up.weight": (6, 4)}, rank=1), 0.7),
        (make_adapter("b", {"blk.0.ffn_up.weight": (6, 4)}, rank=3), -2.0),
    )
    parts = exported_parts(request, "blk.0.ffn_up.weight")
    joined = join_parts(parts, alpha=alpha)
    assert joined.a.shape == (4, 4)
    if alpha is not None:
        assert joined.scale == alpha / 4
    padded = pad_rank(joined, 9)
    assert (padded.a.shape, padded.b.shape) == ((9, 4), (6, 9))
    for found in (joined, padded):
        np.testing.assert_allclose(dense([found]), dense(parts), rtol=1e-5, atol=1e-6)


def test_a_single_part_keeps_its_factors_to_the_bit(make_adapter: MakeAdapter) -> None:
    request = request_of((make_adapter("a", {"blk.0.ffn_up.weight": (6, 4)}), 0.3))
    parts = exported_parts(request, "blk.0.ffn_up.weight")
    assert join_parts(parts) is parts[0]


def test_experts_join_and_pad_along_the_rank(make_adapter: MakeAdapter) -> None:
    shapes = {"blk.0.ffn_up_exps.weight": (3, 6, 4)}
    request = request_of((make_adapter("a", shapes), 1), (make_adapter("b", shapes), 1), shapes=shapes)
    joined = pad_rank(join_parts(exported_parts(request, "blk.0.ffn_up_exps.weight"), alpha=4.0), 6)
    assert (joined.a.shape, joined.b.shape) == ((3, 6, 4), (3, 6, 6))
