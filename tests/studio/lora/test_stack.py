"""The stack: members, mixer, blend, deltas, undo."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.contracts import EVEN, FloatArray, Gains, MixerState
from studio.errors import MismatchError, StudioError
from studio.lora.adapter import Adapter
from studio.lora.stack import LoraStack

Q, K = "blk.0.attn_q.weight", "blk.0.attn_k.weight"
SHAPES = {Q: (6, 4), K: (3, 4)}
INPUTS = np.random.default_rng(0).standard_normal((5, 4), dtype=np.float32)

MakeAdapter = Callable[..., Adapter]


class Doubler:
    """A stranger's `DeltaAdapter`: its delta is twice the inputs, whatever the weight."""

    name = "doubler"
    version = 1
    modules = (Q,)

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        if module != Q:
            return None
        doubled: FloatArray = np.concatenate([inputs, inputs[..., :2]], axis=-1) * np.float32(2)
        return doubled


@contextmanager
def changes(stack: LoraStack) -> Iterator[list[MixerState]]:
    """Collect the mixer's state at every change."""
    seen: list[MixerState] = []

    def record() -> None:
        seen.append(stack.state)

    stack.changed.connect(record)
    yield seen
    stack.changed.disconnect(record)


@pytest.fixture
def legal(make_adapter: MakeAdapter) -> Adapter:
    return make_adapter("legal", SHAPES)


@pytest.fixture
def pirate(make_adapter: MakeAdapter) -> Adapter:
    return make_adapter("pirate", {Q: (6, 4)}, rank=3)


# Members


def test_an_empty_stack(legal: Adapter) -> None:
    stack = LoraStack()
    assert stack.is_empty
    assert len(stack) == 0
    assert stack.pop() is None
    assert not stack.apply(Q, INPUTS, 6).any()


def test_push_and_pop(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal, 0.5)
    stack.push(pirate)
    assert stack.entries == ((legal, 0.5), (pirate, 1.0))
    assert stack.pop() == (pirate, 1.0)
    assert stack.pop() == (legal, 0.5)
    assert stack.is_empty


def test_pop_leaves_what_push_adapter_added(legal: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    stack.push_adapter(doubler := Doubler())
    assert len(stack) == 2
    assert stack.adapters == (doubler,)
    stack.pop()
    assert list(stack.by_key) == ["doubler"]
    assert stack.pop() is None


def test_adapters_of_one_name_have_keys_of_their_own(legal: Adapter) -> None:
    stack = LoraStack()
    assert [stack.push(legal) for _ in range(3)] == ["legal", "legal 2", "legal 3"]
    stack.remove("legal 2")
    assert list(stack.by_key) == ["legal", "legal 3"]


def test_a_key_comes_back_only_for_the_same_file(make_adapter: MakeAdapter) -> None:
    """So an undone step never finds another adapter under its key."""
    stack = LoraStack()
    for folder, key in (("a", "legal"), ("b", "legal 2"), ("a", "legal"), ("b", "legal 2")):
        assert stack.push(make_adapter("legal", SHAPES, source=Path(folder))) == key
        stack.clear()


def test_removing_leaves_older_mappings_alone(legal: Adapter, pirate: Adapter) -> None:
    """A forward pass on another thread goes on with the members it started with."""
    stack = LoraStack()
    key = stack.push(legal)
    stack.push(pirate)
    held, blend = stack.by_key, stack.blend
    assert stack.remove(key) is legal
    assert [held[channel.key] for channel in blend.channels] == [legal, pirate]
    assert list(stack.by_key) == ["pirate"]


def test_clear_removes_all_and_keeps_the_master(legal: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    stack.push_adapter(Doubler())
    stack.set_master(0.5)
    stack.clear()
    assert stack.is_empty
    assert stack.state == MixerState(master=0.5)


def test_what_is_no_adapter_is_refused() -> None:
    with pytest.raises(StudioError, match="int is no adapter"):
        LoraStack().push_adapter(3)  # type: ignore[arg-type]


# The mixer


def test_the_blend_multiplies_channel_and_master(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal, 0.8)
    stack.push(pirate, -0.5)
    stack.set_master(0.5)
    assert [(channel.key, channel.scale) for channel in stack.blend.channels] == [
        ("legal", 0.4),
        ("pirate", -0.25),
    ]
    assert [channel.version for channel in stack.blend.channels] == [legal.version, pirate.version]


def test_silent_channels_are_left_out(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal, 0.0)
    key = stack.push(pirate)
    assert [channel.key for channel in stack.blend.channels] == ["pirate"]
    stack.set_muted(key, True)
    assert stack.blend.channels == ()
    stack.set_muted(key, False)
    stack.set_master(0)
    assert stack.blend.channels == ()


def test_solo_silences_the_others_and_wins_over_mute(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    stack.push(pirate, muted=True)
    stack.set_soloed("pirate", True)
    assert [channel.key for channel in stack.blend.channels] == ["pirate"]
    stack.set_soloed("legal", True)
    assert [channel.key for channel in stack.blend.channels] == ["legal", "pirate"]
    stack.set_soloed("legal", True, exclusive=True)
    assert [channel.key for channel in stack.blend.channels] == ["legal"]
    stack.set_soloed("legal", False)
    assert [channel.key for channel in stack.blend.channels] == ["legal"]  # pirate is muted still


def test_every_change_is_told_once_and_no_change_is_not_told(legal: Adapter) -> None:
    stack = LoraStack()
    with changes(stack) as seen:
        key = stack.push(legal)
        stack.set_scale(key, 0.5)
        stack.set_scale(key, 0.5)
        stack.set_muted(key, False)
        stack.set_master(2)
    assert [(state.channels[0].scale, state.master) for state in seen] == [(1, 1), (0.5, 1), (0.5, 2)]


def test_retraining_an_adapter_changes_the_blend(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    before = stack.blend
    legal.replace(Q, pirate.factors[Q])
    assert stack.blend != before
    expected = pirate.delta(Q, INPUTS)
    assert expected is not None
    np.testing.assert_allclose(stack.apply(Q, INPUTS, 6), expected, rtol=1e-5, atol=1e-6)


def test_gains_multiply_the_scale_module_by_module(legal: Adapter) -> None:
    stack = LoraStack()
    key = stack.push(legal, 0.5)
    stack.push_adapter(Doubler())
    gains = Gains.of({Q: -2.0, K: 0.0})
    before = stack.snapshot()
    with changes(stack) as seen:
        stack.set_gains(key, gains)
        stack.set_gains(key, Gains.of({K: 0.0, Q: -2.0}))
    assert len(seen) == 1
    assert stack.blend.channels[0].gains == gains
    legal_q, doubled = legal.delta(Q, INPUTS), Doubler().delta(Q, INPUTS)
    assert legal_q is not None and doubled is not None
    np.testing.assert_allclose(stack.apply(Q, INPUTS, 6), doubled - legal_q, rtol=1e-5, atol=1e-5)
    delta = stack.applied_delta("attn_k", 0, INPUTS)
    assert delta is not None and not delta.any()
    stack.set_gains("doubler", Gains.of({Q: 0.5}))
    np.testing.assert_allclose(stack.apply(Q, INPUTS, 6), doubled / 2 - legal_q, rtol=1e-5, atol=1e-5)
    stack.restore(before)
    assert stack.channel(key).gains == EVEN


@pytest.mark.parametrize("gain", [math.nan, math.inf, 1e30])
def test_a_gain_that_is_no_use_is_refused_by_its_module(legal: Adapter, gain: float) -> None:
    stack = LoraStack()
    key = stack.push(legal)
    for attempt in (
        lambda: stack.set_gains(key, Gains.of({Q: gain})),
        lambda: stack.push(legal, gains=Gains.of({Q: gain})),
    ):
        with pytest.raises(StudioError, match=r"blk\.0\.attn_q\.weight.*a gain must be"):
            attempt()
    assert stack.channel(key).gains == EVEN


@pytest.mark.parametrize("scale", [math.nan, math.inf, -math.inf, 1e30])
def test_a_scale_that_is_no_use_is_refused(legal: Adapter, scale: float) -> None:
    stack = LoraStack()
    key = stack.push(legal)
    for attempt in (
        lambda: stack.set_scale(key, scale),
        lambda: stack.set_master(scale),
        lambda: stack.push(legal, scale),
        lambda: setattr(stack, "state", MixerState(stack.state.channels, master=scale)),
    ):
        with pytest.raises(StudioError, match="a scale must be"):
            attempt()
    assert len(stack) == 1
    assert stack.blend.channels[0].scale == 1


def test_an_unknown_key_is_refused_by_name() -> None:
    stack = LoraStack()
    for attempt in (
        lambda: stack.set_scale("nobody", 1),
        lambda: stack.set_muted("nobody", True),
        lambda: stack.set_soloed("nobody", True),
        lambda: stack.remove("nobody"),
    ):
        with pytest.raises(StudioError, match="nobody"):
            attempt()


def test_a_whole_mixer_state_can_be_set(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    stack.push(pirate)
    flipped = MixerState(stack.state.channels[::-1], master=2)
    stack.state = flipped
    assert stack.state == flipped
    assert list(stack.by_key) == ["pirate", "legal"]
    with pytest.raises(MismatchError, match="the stack holds"):
        stack.state = MixerState(flipped.channels[:1])


# Undo


def test_a_snapshot_brings_back_members_order_and_controls(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal, 0.3)
    stack.push(pirate, soloed=True)
    stack.push_adapter(Doubler())
    before, blend = stack.snapshot(), stack.blend
    stack.remove("legal")
    stack.set_master(5)
    stack.clear()
    stack.restore(before)
    assert stack.snapshot() == before
    assert stack.blend == blend
    assert stack.entries == ((legal, 0.3), (pirate, 1.0))
    assert len(stack.adapters) == 1


# Deltas


@settings(max_examples=40, deadline=None)
@given(
    ranks=st.lists(st.integers(1, 5), min_size=1, max_size=5),
    scales=st.lists(st.floats(-2, 2), min_size=5, max_size=5),
    master=st.floats(-2, 2),
    has_k=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_the_stack_adds_the_deltas_of_its_members(
    make_adapter: MakeAdapter, ranks: list[int], scales: list[float], master: float, has_k: list[bool]
) -> None:
    stack = LoraStack()
    stack.set_master(master)
    expected = {Q: np.zeros((5, 6)), K: np.zeros((5, 3))}
    for rank, scale, k in zip(ranks, scales, has_k, strict=False):
        adapter = make_adapter("member", SHAPES if k else {Q: SHAPES[Q]}, rank=rank, alpha=rank + 1)
        stack.push(adapter, scale)
        for module, pair in adapter.factors.items():
            dense = pair.scaling * pair.b.astype(np.float64) @ pair.a  # (out, in)
            expected[module] += master * scale * INPUTS @ dense.T
    for module, (out_features, _) in SHAPES.items():
        np.testing.assert_allclose(
            stack.apply(module, INPUTS, out_features), expected[module], rtol=1e-4, atol=1e-4
        )


def test_a_strangers_adapter_sounds_with_the_others(legal: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal, 0.5)
    key = stack.push_adapter(Doubler())
    stack.set_scale(key, 3)
    own, doubled = legal.delta(Q, INPUTS), Doubler().delta(Q, INPUTS)
    assert own is not None
    assert doubled is not None
    np.testing.assert_allclose(stack.apply(Q, INPUTS, 6), 0.5 * own + 3 * doubled, rtol=1e-5, atol=1e-5)


def test_applied_delta_names_target_and_layer(legal: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    np.testing.assert_array_equal(stack.applied_delta("attn_q", 0, INPUTS), stack.apply(Q, INPUTS, 6))
    assert stack.applied_delta("attn_q", 1, INPUTS) is None
    assert stack.applied_delta("output", None, INPUTS) is None
    stack.set_muted("legal", True)
    assert stack.applied_delta("attn_q", 0, INPUTS) is None


def test_one_input_is_as_good_as_many(legal: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    np.testing.assert_allclose(
        stack.apply(Q, INPUTS[0], 6), stack.apply(Q, INPUTS, 6)[0], rtol=1e-5, atol=1e-6
    )


def test_wrong_dimensions_are_refused_by_module(make_adapter: MakeAdapter, legal: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal)
    with pytest.raises(MismatchError, match="takes inputs of 4 features, not 9") as caught:
        stack.apply(Q, np.zeros((2, 9), dtype=np.float32), 6)
    assert caught.value.where == Q
    with pytest.raises(MismatchError, match="gives 6 output features, not 7"):
        stack.apply(Q, INPUTS, 7)
    stack.push(make_adapter("of another base", {Q: (8, 4)}))
    with pytest.raises(MismatchError, match="different shapes"):
        stack.apply(Q, INPUTS, 6)


def test_a_strangers_output_of_another_length_is_refused(make_adapter: MakeAdapter) -> None:
    stack = LoraStack()
    stack.push(make_adapter("narrow", {Q: (5, 4)}))
    stack.push_adapter(Doubler())
    with pytest.raises(MismatchError, match="narrow gives outputs"):
        stack.apply(Q, INPUTS, 5)


def test_a_clone_goes_its_own_way(legal: Adapter, pirate: Adapter) -> None:
    stack = LoraStack()
    stack.push(legal, 0.5)
    clone = stack.clone()
    with changes(stack) as seen:
        clone.push(pirate)
        clone.set_scale("legal", 2)
    assert seen == []
    assert (len(stack), stack.channel("legal").scale) == (1, 0.5)
    assert clone.push(legal) == "legal 2"
    assert repr(stack) == "LoraStack(legal x 0.5; master 1)"
    assert repr(LoraStack()) == "LoraStack(empty; master 1)"
