"""Where blends act, and in which layer two of them begin to differ."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains
from studio.engine.adapter_bank import signature_of
from studio.engine.layer_scales import HeardAdapters, first_difference

Q1, UP1, Q2 = "blk.1.attn_q.weight", "blk.1.ffn_up.weight", "blk.2.attn_q.weight"


def blend(gains: dict[str, float] | None = None, **scales: float) -> BlendState:
    of = Gains.of(gains or {})
    return BlendState(tuple(BlendChannel(key, 1, scale, of) for key, scale in scales.items()))


def attached(adapters: dict[str, Any], heard: HeardAdapters | None = None) -> HeardAdapters:
    heard = heard or HeardAdapters(3)
    heard.attach(adapters, signature_of(adapters))
    return heard


@pytest.fixture
def heard(tiny_base: Callable[..., Any], tiny_adapter: Callable[..., Any]) -> HeardAdapters:
    base = tiny_base(layers=3)
    modules = {"a": [Q1, UP1, Q2], "late": [Q2], "early": ["token_embd.weight"], "head": ["output.weight"]}
    return attached({key: tiny_adapter(base, its) for key, its in modules.items()})


def test_scales_are_told_by_layer(heard: HeardAdapters) -> None:
    assert heard.scales_of(BASE_ALONE) == ((), (), ())
    assert heard.scales_of(blend(a=0.5)) == ((), ((0, (0.5, 0.5)),), ((0, (0.5,)),))
    assert heard.scales_of(blend({UP1: 0.5}, a=2)) == ((), ((0, (2.0, 1.0)),), ((0, (2.0,)),))


@pytest.mark.parametrize(
    ("one", "other", "layer"),
    [
        (blend(a=1), blend(a=1), 3),
        (blend(a=1), blend(a=2), 1),
        (blend(a=1), BASE_ALONE, 1),
        (blend(a=1, late=1), blend(a=1), 2),
        (blend({Q2: 0.5}, a=1), blend(a=1), 2),
        (blend({UP1: 0.5}, a=1), blend(a=1), 1),
        (blend({Q2: 0}, late=1), BASE_ALONE, 3),
        (blend(late=1, a=1), blend(a=1, late=1), 3),
        (blend(early=1), BASE_ALONE, 0),
        (blend(head=1), BASE_ALONE, 3),
    ],
)
def test_two_blends_differ_from_a_layer_on(
    heard: HeardAdapters, one: BlendState, other: BlendState, layer: int
) -> None:
    assert first_difference(heard.scales_of(one), heard.scales_of(other)) == layer


def test_what_comes_in_an_adapters_place_is_not_taken_for_it(
    tiny_base: Callable[..., Any], tiny_adapter: Callable[..., Any]
) -> None:
    base = tiny_base(layers=3)
    adapter, other = (tiny_adapter(base, [Q1], seed=seed) for seed in (1, 2))
    heard = attached({"a": adapter})
    seen = {heard.scales_of(blend(a=1))}
    attached({"a": adapter, "b": other}, heard)
    assert heard.scales_of(blend(a=1)) in seen  # it stayed attached
    for key, now in (("a", other), ("a", adapter), ("b", adapter)):
        scales = attached({key: now}, heard).scales_of(BlendState((BlendChannel(key, 1, 1.0),)))
        assert scales not in seen
        seen.add(scales)
    adapter.version = 2
    assert attached({"b": adapter}, heard).scales_of(blend(b=1)) not in seen
