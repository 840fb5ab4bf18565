"""Presets, curves and the short form of gains."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.contracts import Gains
from studio.errors import StudioError
from studio.lora.gains import (
    PRESETS,
    by_layer,
    curve,
    from_stored,
    layer_count,
    over_layers,
    preset,
    product,
    read_layers,
    to_stored,
)
from studio.lora.targets import layer_of, target_of

TARGETS = ("attn_q", "attn_output", "ffn_up", "ffn_gate_inp")
LAYERS = 7
BLOCKS = [f"blk.{layer}.{target}.weight" for layer in range(LAYERS) for target in TARGETS]
MODULES = ["token_embd.weight", *BLOCKS, "output.weight"]


def heard(gains: Gains) -> list[str]:
    return [module for module in MODULES if gains[module]]


def test_all_is_the_gain_1_everywhere() -> None:
    assert preset("all", MODULES, LAYERS) == Gains()


def test_the_thirds_share_out_every_module_once() -> None:
    thirds = [heard(preset(f"{name}-third", MODULES, LAYERS)) for name in ("first", "middle", "last")]
    assert sorted(sum(thirds, [])) == sorted(MODULES)
    assert [
        sorted({layer for module in third if (layer := layer_of(module)) is not None}) for third in thirds
    ] == [
        [0, 1],
        [2, 3, 4],
        [5, 6],
    ]
    assert "token_embd.weight" in thirds[0]
    assert "output.weight" in thirds[2]


def test_attention_and_mlp_share_out_the_blocks() -> None:
    attention = heard(preset("attention", MODULES, LAYERS))
    mlp = heard(preset("mlp", MODULES, LAYERS))
    assert {target_of(module) for module in attention} == {"attn_q", "attn_output"}
    assert {target_of(module) for module in mlp} == {"ffn_up", "ffn_gate_inp"}
    assert sorted(attention + mlp) == sorted(BLOCKS)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_of_some_targets_leaves_the_others_as_they_were(name: str) -> None:
    before = over_layers(dict.fromkeys(range(LAYERS), 0.5), MODULES, LAYERS)
    gains = preset(name, MODULES, LAYERS, targets=["attn_q"], before=before)
    assert all(gains[module] == 0.5 for module in MODULES if target_of(module) != "attn_q")
    whole = preset(name, MODULES, LAYERS)
    assert all(gains[module] == whole[module] for module in MODULES if target_of(module) == "attn_q")


def test_a_curve_is_straight_between_its_points_and_flat_outside() -> None:
    assert list(curve({4: 0.0, 2: 1.0}, LAYERS).values()) == [1.0, 1.0, 1.0, 0.5, 0.0, 0.0, 0.0]
    gains = over_layers(curve({0: 0.0, 6: 3.0}, LAYERS), MODULES, LAYERS, targets=["ffn_up", "output"])
    assert [gains[f"blk.{layer}.ffn_up.weight"] for layer in range(LAYERS)] == [0, 0.5, 1, 1.5, 2, 2.5, 3]
    assert gains["blk.3.attn_q.weight"] == 1
    assert gains["output.weight"] == 3  # it stands behind the last layer
    assert gains["token_embd.weight"] == 1


def test_gains_by_layer_are_those_of_a_curve_and_of_nothing_else() -> None:
    points = {0: 0.5, 1: -1.0, 2: 1.0, 3: 0.0, 4: 2.0, 5: 1.0, 6: 1.5}
    assert by_layer(over_layers(points, MODULES, LAYERS), MODULES, LAYERS) == points
    assert by_layer(preset("attention", MODULES, LAYERS), MODULES, LAYERS) is None


def test_layers_that_are_not_named_keep_their_gain() -> None:
    before = Gains.of({"blk.1.attn_q.weight": 3.0})
    gains = over_layers({0: 0.0}, ["blk.0.attn_q.weight", "blk.1.attn_q.weight"], 2, before=before)
    assert gains == Gains.of({"blk.0.attn_q.weight": 0.0, "blk.1.attn_q.weight": 3.0})


def test_gains_of_which_both_hold_multiply() -> None:
    both = product(preset("attention", MODULES, LAYERS), preset("first-third", MODULES, LAYERS))
    assert set(heard(both)) == {
        module for module in BLOCKS if "attn" in module and (layer_of(module) or 0) < 2
    }


def test_layers_are_counted_from_the_names() -> None:
    assert layer_count(MODULES) == LAYERS
    assert layer_count(["output.weight"]) == 0


def test_the_short_form_is_short() -> None:
    stored = to_stored(preset("middle-third", MODULES, LAYERS))
    assert stored["attn_q"] == {"0-1": 0.0, "5-6": 0.0}
    assert stored["output"] == 0.0
    assert len(stored) == len(TARGETS) + 2


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from(MODULES), st.sampled_from([0.0, 0.25, 1.0, -3.0])))
def test_the_short_form_gives_back_what_it_was_made_of(gains: dict[str, float]) -> None:
    assert from_stored(to_stored(Gains.of(gains)), MODULES) == Gains.of(gains)


def test_one_number_stands_for_all_layers_and_the_last_range_counts() -> None:
    gains = from_stored({"attn_q": 0.5, "ffn_up": {"0-6": 0.0, "3": 2.0}, "ghost": 7.0}, MODULES)
    assert [gains[f"blk.{layer}.attn_q.weight"] for layer in range(LAYERS)] == [0.5] * LAYERS
    assert [gains[f"blk.{layer}.ffn_up.weight"] for layer in range(LAYERS)] == [0, 0, 0, 2, 0, 0, 0]


@pytest.mark.parametrize("text", ["", "-1", "5-3", "1-2-3", "x", "00000", "1-", " 1"])
def test_what_names_no_layers_is_refused(text: str) -> None:
    with pytest.raises(StudioError, match="names no layers"):
        read_layers(text)
