"""A search finds the blend its examples were made with; slopes and landscapes are those of the losses."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest

from studio.contracts import (
    BlendChannel,
    BlendState,
    ChannelState,
    DeltaAdapter,
    Example,
    Gains,
    LearningEngine,
    MixerState,
    Work,
)
from studio.engine.local import LocalEngine
from studio.errors import EngineError, MismatchError, StudioError
from studio.formats.gguf_file import GgufFile
from studio.jobs.searching import measure_losses, measure_sensitivity, scan_landscape, search_blend
from studio.learning.blend_parameters import heard_blend
from studio.learning.lorahub import try_points
from studio.learning.searches import FoundBlend, Landscape, SearchOptions, SearchProgress
from studio.learning.sensitivity import Sensitivity
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.dora import DoraAdapter
from studio.lora.report import bind
from studio.session.next_token import log_softmax

MODULES = [f"blk.{layer}.{target}.weight" for layer in range(2) for target in ("attn_q", "attn_v", "ffn_up")]
MODULES += ["output.weight"]
SHAPES = {"attn_q": (16, 16), "attn_v": (16, 16), "ffn_up": (24, 16), "output": (40, 16)}
PREFIXES = [[3, 1, 4, 1], [5, 9, 2, 6], [5, 3, 5, 8], [30, 31, 32, 33], [7, 7, 7, 7], [0, 39, 12, 21]]


def run(work: Work) -> Any:
    """Run work to its end."""
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def make_adapter(name: str, seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    factors = {}
    for module in MODULES:
        out, inputs = SHAPES[module.split(".")[-2]]
        a = random.standard_normal((2, inputs), dtype=np.float32)
        b = random.standard_normal((out, 2), dtype=np.float32)
        factors[module] = LoraFactors(a * np.float32(0.125), b * np.float32(0.5), alpha=2.0)
    return Adapter(name, factors)


@pytest.fixture(scope="module")
def adapters() -> dict[str, DeltaAdapter]:
    return {name: make_adapter(name, seed) for seed, name in enumerate(("wind", "sea", "salt"))}


@pytest.fixture
def engine(
    local_engine: LocalEngine, tiny_llama: GgufFile, adapters: Mapping[str, DeltaAdapter]
) -> Iterator[LocalEngine]:
    local_engine.open(tiny_llama)
    local_engine.attach(adapters)
    yield local_engine


def mixer(*scales: float, **more: Any) -> MixerState:
    names = ("wind", "sea", "salt")
    return MixerState(tuple(ChannelState(*pair) for pair in zip(names, scales, strict=False)), **more)


Answers = Callable[[MixerState], list[Example]]


@pytest.fixture
def answers_of(engine: LocalEngine, adapters: Mapping[str, DeltaAdapter]) -> Answers:
    """Give every next token with the probability that a blend gives it.

    Their loss is the blend's cross-entropy with itself, so nothing predicts them better than that blend.
    """

    def answers(state: MixerState) -> list[Example]:
        examples = []
        for prefix in PREFIXES:
            logits = engine.evaluate(prefix, heard_blend(adapters, state)).logits
            for token, probability in enumerate(np.exp(log_softmax(logits))):
                weights = (*[0.0] * len(prefix), float(probability))
                examples.append(Example((*prefix, token), weights))
        return examples

    return answers


KNOWN = mixer(0.8, -0.3, 0.45)


def scales(state: MixerState) -> list[float]:
    return [channel.scale for channel in state.channels]


@pytest.mark.parametrize("start", [mixer(0, 0, 0), mixer(1, 1, 1), mixer(0.5, 0.5, 0.5, master=0.7)])
def test_the_gradient_finds_the_scales_that_the_answers_were_made_with(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers, start: MixerState
) -> None:
    examples = answers_of(KNOWN)
    found: FoundBlend = run(search_blend(engine, examples, adapters, start, SearchOptions()))
    np.testing.assert_allclose(np.array(scales(found.state)) * start.master, scales(KNOWN), atol=1e-2)
    known, before = run(measure_losses(engine, examples, adapters, [KNOWN, start]))
    assert found.state.master == start.master
    assert found.before.total == pytest.approx(before.total, rel=1e-5)
    assert found.after.mean == pytest.approx(known.mean, abs=1e-5)
    assert len(found.history) <= 30
    assert min(found.history) == found.after.mean


def test_gains_are_found_by_layer(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers
) -> None:
    """One adapter, quiet in the first layer and loud in the second, with which the output goes."""
    loud = {module: 0.5 if module.startswith("blk.0") else 1.5 for module in MODULES}
    known = MixerState((ChannelState("wind", 0.6, gains=Gains.of(loud)),))
    start = MixerState((ChannelState("wind", 1.0),))
    options = SearchOptions(gains=True)
    found: FoundBlend = run(search_blend(engine, answers_of(known), adapters, start, options))
    (channel,) = found.state.channels
    assert channel.scale == pytest.approx(0.6, abs=1e-2)  # the mean over the layers
    for module, gain in loud.items():
        assert channel.gains[module] == pytest.approx(gain, abs=3e-2)


def test_gains_that_stand_stay_in_what_is_found(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers
) -> None:
    gains = Gains.of({module: float("attn" in module) for module in MODULES})
    known, start = (MixerState((ChannelState("sea", scale, gains=gains),)) for scale in (0.7, 0.1))
    for by_layer in (False, True):
        options = SearchOptions(gains=by_layer)
        found: FoundBlend = run(search_blend(engine, answers_of(known), adapters, start, options))
        (channel,) = found.state.channels
        assert channel.scale == pytest.approx(0.7, abs=1e-2)
        assert all(channel.gains[module] == 0 for module in MODULES if "attn" not in module)


def test_muted_channels_and_those_not_chosen_stay(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers
) -> None:
    """What is muted has no part in it; what is not chosen is heard, and stays where it is."""
    known = replace(KNOWN, channels=KNOWN.channels[:2])
    muted = ChannelState("salt", 9.0, muted=True)
    start = MixerState((ChannelState("wind", 0.0), ChannelState("sea", -0.3), muted))
    work = search_blend(engine, answers_of(known), adapters, start, SearchOptions(), keys=["wind"])
    found: FoundBlend = run(work)
    assert found.state.channels[1:] == start.channels[1:]
    assert found.state.channels[0].scale == pytest.approx(0.8, abs=1e-2)
    soloed = replace(start, channels=(replace(start.channels[0], soloed=True), *start.channels[1:]))
    alone: FoundBlend = run(search_blend(engine, answers_of(known), adapters, soloed, SearchOptions()))
    assert alone.state.channels[1:] == start.channels[1:]
    assert alone.state.channels[0].scale != found.state.channels[0].scale


def test_it_stays_within_bounds(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers
) -> None:
    options = SearchOptions(lowest=0.0, highest=0.6)
    found: FoundBlend = run(search_blend(engine, answers_of(KNOWN), adapters, mixer(2, 2, 2), options))
    assert all(0 <= scale <= 0.6 for scale in scales(found.state))
    assert found.after.mean < found.before.mean


def test_a_penalty_silences_what_helps_little(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers
) -> None:
    examples = answers_of(mixer(0.8, 0.02, 0.0))
    start = mixer(0.5, 0.5, 0.5)
    free: FoundBlend = run(search_blend(engine, examples, adapters, start, SearchOptions()))
    fewer: FoundBlend = run(search_blend(engine, examples, adapters, start, SearchOptions(l1=0.1)))
    assert scales(free.state)[1] == pytest.approx(0.02, abs=1e-2)
    assert scales(fewer.state)[1:] == [0, 0]
    assert 0 < scales(fewer.state)[0] < scales(free.state)[0]


def test_a_closed_search_leaves_its_best_blend_in_the_progress(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers
) -> None:
    examples = answers_of(KNOWN)
    work = search_blend(engine, examples, adapters, mixer(0, 0, 0), SearchOptions())
    progress = next(work)
    while progress.done < 4:
        progress = next(work)
    work.close()
    assert isinstance(progress, SearchProgress)
    assert progress.best is not None
    assert len(progress.best.history) == 4
    assert progress.best.after.mean < progress.best.before.mean
    (measured,) = run(measure_losses(engine, examples, adapters, [progress.best.state]))
    assert measured.total == pytest.approx(progress.best.after.total, rel=1e-5)


@pytest.mark.parametrize("steps", [1, 3])
def test_it_tries_no_more_blends_than_asked(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers, steps: int
) -> None:
    work = search_blend(engine, answers_of(KNOWN), adapters, mixer(0, 0, 0), SearchOptions(steps=steps))
    assert len(run(work).history) == steps


# Without gradients


@pytest.fixture
def dora(tiny_llama: GgufFile) -> DoraAdapter:
    """An adapter that shows no factors: its delta is not in proportion to its scale."""
    module = "blk.0.attn_q.weight"
    factors = make_adapter("dora", 9).factors[module]
    magnitudes = np.linalg.norm(tiny_llama.dense(module), axis=1).astype(np.float32)
    adapter, _ = bind(DoraAdapter(Adapter("dora", {module: factors}), {module: magnitudes}), tiny_llama)
    return adapter


@pytest.fixture
def nevergrad() -> None:
    """Skip without the extra."""
    pytest.importorskip("nevergrad")


@pytest.mark.usefixtures("nevergrad")
@pytest.mark.parametrize("at_once", [1, 8])
def test_lorahub_comes_near_in_as_many_blends_as_asked(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers, at_once: int
) -> None:
    """One by one, and in sweeps of eight, of which the last is cut short; the same seed finds the same."""
    examples, start = answers_of(KNOWN), mixer(0, 0, 0)
    options = SearchOptions("lorahub", steps=60, at_once=at_once, seed=3)
    found: FoundBlend = run(search_blend(engine, examples, adapters, start, options))
    known, before = run(measure_losses(engine, examples, adapters, [KNOWN, start]))
    assert len(found.history) == 60
    assert found.after.mean == min(found.history)
    assert found.after.mean - known.mean < 0.2 * (before.mean - known.mean)
    again: FoundBlend = run(search_blend(engine, examples, adapters, start, options))
    assert again == found


@pytest.mark.usefixtures("nevergrad")
def test_lorahub_asks_for_no_more_at_once_than_will_be_measured() -> None:
    start, low, high = np.zeros(2), np.full(2, -1.0), np.ones(2)
    points = try_points(start, low, high, budget=3, at_once=1_000_000, seed=0)
    assert len(next(points)) == 1
    assert len(points.send([0.0])) == 3


@pytest.mark.usefixtures("nevergrad")
@pytest.mark.parametrize("at_once", [1, 4])
def test_lorahub_stays_within_narrow_bounds_without_a_warning(at_once: int) -> None:
    low, high = np.full(2, 0.25), np.full(2, 0.5)
    points = try_points(low, low, high, budget=12, at_once=at_once, seed=0)
    tried = next(points)
    while len(tried) < 12:
        values = [float(((point - 0.4) ** 2).sum()) for point in tried[-at_once:]]
        tried += points.send(values)
    assert all((low <= point).all() and (point <= high).all() for point in tried)
    assert len({tuple(point) for point in tried}) > 3


@pytest.mark.usefixtures("nevergrad")
def test_lorahub_turns_dora_too(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], dora: DoraAdapter, texts: list[Example]
) -> None:
    start = MixerState((ChannelState("wind", 0.5), ChannelState("dora", 0.5)))
    options, stacked = SearchOptions("lorahub", steps=25), {**adapters, "dora": dora}
    found: FoundBlend = run(search_blend(engine, texts, stacked, start, options, keys=["dora"]))
    assert found.state.channels[0] == start.channels[0]
    assert found.state.channels[1] != start.channels[1]
    assert found.after.mean < found.before.mean


def test_without_nevergrad_lorahub_says_what_to_do(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nevergrad", None)  # as Python marks what cannot be imported
    with pytest.raises(StudioError, match=r"lora-studio\[nevergrad\]"):
        search(engine, adapters, mixer(1), method="lorahub")


# Slopes


BENT = MixerState(
    (
        ChannelState("wind", 0.8, gains=Gains.of({MODULES[0]: 0.5, MODULES[4]: -2.0})),
        ChannelState("sea", 0.0),
        ChannelState("salt", -0.4),
    ),
    master=0.7,
)


@pytest.fixture
def texts() -> list[Example]:
    random = np.random.default_rng(5)
    return [Example.of(random.integers(0, 40, length).tolist()) for length in (2, 9, 16)]


Slope = Callable[[Callable[[float], MixerState]], float]


@pytest.fixture
def slope(engine: LearningEngine, texts: list[Example], adapters: Mapping[str, DeltaAdapter]) -> Slope:
    """Take the central difference, of fourth order, of the mean loss along a change of the mixer."""
    step = 0.01

    def difference(along: Callable[[float], MixerState]) -> float:
        states = [along(step * number) for number in (-2, -1, 1, 2)]
        a, b, c, d = (loss.mean for loss in run(measure_losses(engine, texts, adapters, states)))
        return float((a - 8 * b + 8 * c - d) / (12 * step))

    return difference


def changed(state: MixerState, key: str, **changes: Any) -> MixerState:
    channels = (replace(one, **changes) if one.key == key else one for one in state.channels)
    return replace(state, channels=tuple(channels))


def with_scale(channel: ChannelState, by: float) -> MixerState:
    return changed(BENT, channel.key, scale=channel.scale + by)


def with_gain(channel: ChannelState, module: str, by: float) -> MixerState:
    gains = dict(channel.gains.by_module)
    return changed(BENT, channel.key, gains=Gains.of({**gains, module: channel.gains[module] + by}))


def with_layer(channel: ChannelState, modules: list[str], by: float) -> MixerState:
    gains = {one: channel.gains[one] * (1 + by * (one in modules)) for one in MODULES}
    return changed(BENT, channel.key, gains=Gains.of(gains))


@pytest.mark.parametrize("channel", BENT.channels, ids=lambda channel: channel.key)
def test_slopes_are_the_central_differences_of_the_losses(
    engine: LocalEngine,
    adapters: Mapping[str, DeltaAdapter],
    texts: list[Example],
    slope: Slope,
    channel: ChannelState,
) -> None:
    """Over scales, one of them 0, over the gains of single modules, and over those of layers."""
    near = partial(pytest.approx, rel=1e-3, abs=2e-4)
    found: Sensitivity = run(measure_sensitivity(engine, texts, adapters, BENT))
    assert found.scale(channel.key) == near(slope(partial(with_scale, channel)))
    for module in (MODULES[0], MODULES[4], "output.weight"):
        assert found.by_gain(channel.key)[module] == near(slope(partial(with_gain, channel, module)))
    for layer, modules in enumerate((MODULES[:3], MODULES[3:])):
        assert found.by_layer(channel.key)[layer] == near(slope(partial(with_layer, channel, modules)))


def test_the_slopes_of_modules_add_up(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], texts: list[Example], slope: Slope
) -> None:
    found: Sensitivity = run(measure_sensitivity(engine, texts, adapters, BENT))
    assert sum(found.by_module("salt").values()) == pytest.approx(found.scale("salt"))
    assert sum(found.by_module("sea").values()) != 0  # silent, but it would not be without effect
    assert set(found.by_gain("sea").values()) == {0.0}
    louder = slope(lambda by: replace(BENT, master=BENT.master * (1 + by)))
    assert sum(found.whole().values()) == pytest.approx(louder, rel=1e-3, abs=2e-4)
    (loss,) = run(measure_losses(engine, texts, adapters, [BENT]))
    assert found.loss.total == pytest.approx(loss.total, rel=1e-5)


# Landscapes


def test_a_landscape_is_the_losses_of_its_blends_one_by_one(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], texts: list[Example]
) -> None:
    work = scan_landscape(engine, texts, adapters, BENT, ("salt", "wind"), ((-1, 1), (0, 1.5)), 4)
    found: Landscape = run(work)
    np.testing.assert_allclose(found.x, np.linspace(-1, 1, 4))
    np.testing.assert_allclose(found.y, np.linspace(0, 1.5, 4))
    assert found.point == (-0.4, 0.8)
    for row, wind in enumerate(found.y):
        for column, salt in enumerate(found.x):
            state = changed(changed(BENT, "salt", scale=salt), "wind", scale=wind)
            heard = BlendState(
                tuple(
                    BlendChannel(one.key, adapters[one.key].version, 0.7 * one.scale, one.gains)
                    for one in state.channels
                )
            )
            alone = engine.losses(texts, [heard])[0]
            assert found.losses[row, column] == pytest.approx(alone.mean, rel=1e-5)
    (here,) = run(measure_losses(engine, texts, adapters, [BENT]))
    assert found.loss == pytest.approx(here.mean, rel=1e-5)


def test_a_landscape_tells_how_far_it_is_and_can_be_closed(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter]
) -> None:
    long = [Example.of([1] * 30) for _ in range(40)]
    work = scan_landscape(engine, long, adapters, KNOWN, ("wind", "sea"), ((0, 1), (0, 1)), 2)
    assert [next(work).done for _ in range(4)] == [0, 0, 1, 1]  # two parts a blend
    work.close()


def test_the_lowest_point_of_a_landscape_is_where_the_answers_are_from(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], answers_of: Answers
) -> None:
    spans = ((0.0, 1.6), (-0.9, 0.3))
    found: Landscape = run(
        scan_landscape(engine, answers_of(KNOWN), adapters, KNOWN, ("wind", "sea"), spans, 5)
    )
    row, column = np.unravel_index(found.losses.argmin(), found.losses.shape)
    assert (found.x[column], found.y[row]) == pytest.approx((0.8, -0.3))


# What is refused


def search(
    engine: LearningEngine, adapters: Mapping[str, DeltaAdapter], state: MixerState, **options: Any
) -> Any:
    return run(search_blend(engine, [Example.of([1, 2])], adapters, state, SearchOptions(**options)))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (MixerState(), "there are no adapters"),
        (MixerState((ChannelState("wind", muted=True),)), "no adapter is audible"),
        (mixer(1, master=0.0), "no adapter is audible"),
    ],
)
def test_a_silent_mixer_is_refused(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], state: MixerState, message: str
) -> None:
    with pytest.raises(StudioError, match=message):
        search(engine, adapters, state)
    with pytest.raises(StudioError, match=message):
        run(measure_sensitivity(engine, [Example.of([1, 2])], adapters, state))


@pytest.mark.parametrize(
    ("options", "where"),
    [
        ({"lowest": 1.5, "highest": -1.5}, "bounds"),
        ({"highest": float("nan")}, "bounds"),
        ({"lowest": 1.0, "highest": 1.0}, "bounds"),
        ({"l1": -1.0}, "l1"),
        ({"steps": 0}, "steps"),
        ({"at_once": 0}, "at_once"),
    ],
)
def test_options_without_sense_are_refused_by_name(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], options: dict[str, Any], where: str
) -> None:
    with pytest.raises(StudioError) as caught:
        search(engine, adapters, mixer(1), **options)
    assert caught.value.where == where


@pytest.mark.parametrize("examples", [[], [Example((1,), (1.0,))], [Example((1, 2), (1.0, 0.0))]])
def test_examples_without_anything_to_predict_are_refused(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], examples: list[Example]
) -> None:
    with pytest.raises(EngineError):
        run(search_blend(engine, examples, adapters, mixer(1), SearchOptions()))
    with pytest.raises(EngineError):
        run(scan_landscape(engine, examples, adapters, mixer(1, 1), ("wind", "sea"), ((0, 1), (0, 1)), 2))


@pytest.mark.parametrize("keys", [("wind", "wind"), ("wind", "salt"), ("wind", "none")])
def test_a_landscape_lies_over_two_audible_channels(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], keys: tuple[str, str]
) -> None:
    state = MixerState((*mixer(1, 1).channels, ChannelState("salt", muted=True)))
    with pytest.raises(StudioError):
        run(scan_landscape(engine, [Example.of([1, 2])], adapters, state, keys, ((0, 1), (0, 1)), 2))


def test_no_gradient_passes_through_dora(
    engine: LocalEngine, adapters: Mapping[str, DeltaAdapter], dora: DoraAdapter
) -> None:
    state = MixerState((*mixer(1).channels, ChannelState("dora")))
    with pytest.raises(MismatchError, match=r"dora: it shows no factors.*lorahub"):
        search(engine, {**adapters, "dora": dora}, state)
