"""The gradients of every architecture: against differences in float64, in float32, and on a device."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Gains, Gradients
from studio.engine.backend import NumpyBackend, choose_backend
from studio.engine.gradients import batch
from studio.engine.local import LocalEngine
from studio.engine.model import EMBEDDING, HEAD
from studio.engine.models import ARCHITECTURES, experts, model_for
from studio.engine.models.experts import choose
from studio.engine.residency import Residency
from studio.formats.gguf_file import GgufFile

FOLDER = Path(__file__).parents[3] / "data" / "architectures"
NAMES = sorted(path.stem for path in FOLDER.glob("*.gguf"))
Make = Callable[..., Any]
STEP = 2.0**-12  # scales and gains that are moved by it stay float32 numbers


@pytest.fixture(params=NAMES)
def base(request: pytest.FixtureRequest, memory_base: Make) -> Iterator[Any]:
    file = GgufFile.open(FOLDER / f"{request.param}.gguf")
    yield memory_base(dict(file.metadata), {name: file.dense(name) for name in file.tensors})
    file.close()


@pytest.fixture
def adapters(base: Any, tiny_adapter: Make) -> dict[str, Any]:
    """One on every weight, embedding, head, routers and experts among them, and one on some."""
    modules = [EMBEDDING, *(name for group in model_for(base).linear_groups for name in group)]
    return {"a": tiny_adapter(base, modules), "b": tiny_adapter(base, modules[::2], rank=2, seed=2)}


@pytest.fixture
def blend(adapters: dict[str, Any]) -> BlendState:
    gains = {module: 0.5 for module in adapters["b"].modules[1::2]}
    return BlendState((BlendChannel("a", 1, 0.25), BlendChannel("b", 1, -0.5, Gains.of(gains))))


class Choices:
    """Chooses the experts that were chosen in the first pass: a choice that jumps has no differences."""

    def __init__(self) -> None:
        self.made: list[Any] = []
        self.again: Iterator[Any] | None = None

    def __call__(self, scores: Any, used: int) -> Any:
        if self.again is not None:
            return next(self.again)
        self.made.append(choose(scores, used))
        return self.made[-1]

    def repeat(self) -> None:
        self.again = itertools.cycle(self.made)


def distance(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def parts_of(gradients: Gradients) -> list[Any]:
    """Return all gradients, module by module."""
    scales = [np.array(list(by_module.values())) for by_module in gradients.scales.values()]
    return [*scales, *(part for pair in gradients.factors.values() for part in (pair.a, pair.b))]


def largest_distance(found: Gradients, wanted: Gradients) -> float:
    assert list(found.factors) == list(wanted.factors)
    return max(map(distance, parts_of(found), parts_of(wanted)))


def test_gradients_are_the_differences_in_float64(
    base: Any,
    adapters: dict[str, Any],
    blend: BlendState,
    in_float64: Make,
    random_examples: Make,
    central_difference: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    choices = Choices()
    monkeypatch.setattr(experts, "choose", choices)
    precise = in_float64(base, adapters)
    examples = random_examples(model_for(base).vocabulary_size, (9, 12, 12, 5))
    found = precise.gradients(examples, blend, train="a")
    assert set(found.factors) == set(adapters["a"].factors)
    choices.repeat()

    random = np.random.default_rng()
    for which in (0, 1):
        towards = {
            module: random.standard_normal(pair[which].shape) for module, pair in precise.factors("a").items()
        }

        def moved(step: float, which: int = which, towards: Any = towards) -> float:
            for module, pair in precise.factors("a").items():
                pair[which][:] += step * towards[module]
            loss = precise.loss(examples, blend)
            for module, pair in precise.factors("a").items():
                pair[which][:] -= step * towards[module]
            return float(loss)

        wanted = central_difference(moved, 1e-4)
        gradients = {module: (pair.a, pair.b)[which] for module, pair in found.factors.items()}
        check(gradients, towards, wanted)

    for number, channel in enumerate(blend.channels):
        signs = {module: np.array(random.choice([-1.0, 1.0])) for module in adapters[channel.key].modules}

        def at(step: float, number: int = number, channel: Any = channel, signs: Any = signs) -> float:
            gains = {
                module: (channel.scale_of(module) + step * sign) / channel.scale
                for module, sign in signs.items()
            }
            channels = list(blend.channels)
            channels[number] = BlendChannel(channel.key, 1, channel.scale, Gains.of(gains))
            return float(precise.loss(examples, BlendState(tuple(channels))))

        wanted = central_difference(at, STEP)
        check(found.scales[channel.key], signs, wanted)


def check(gradients: Any, towards: Any, wanted: float) -> None:
    """Hold a derivative towards somewhere against a difference, as exactly as the whole gradient allows."""
    assert set(gradients) == set(towards)
    derivative = sum(float((gradients[module] * towards[module]).sum()) for module in towards)
    length = np.sqrt(sum(float(np.square(gradient).sum()) for gradient in gradients.values()))
    assert abs(derivative - wanted) < 1e-6 * length


def test_gradients_in_float32_are_those_in_float64(
    base: Any, adapters: dict[str, Any], blend: BlendState, in_float64: Make, random_examples: Make
) -> None:
    """Dense and as stored; at once and layer by layer; the loss is that of a plain pass."""
    examples = random_examples(model_for(base).vocabulary_size, (9, 12, 12, 5))
    wanted = in_float64(base, adapters).gradients(examples, blend, train="a")
    for residency in ("dense", "quantised"):
        engine = LocalEngine(choose_backend("numpy"), residency)
        engine.open(base)
        engine.attach(adapters)
        found = engine.gradients(examples, blend, train="a")
        assert largest_distance(found, wanted) < 1e-4
        alone, loss = engine.losses(examples, [BASE_ALONE, blend])  # side by side
        assert alone.total == pytest.approx(engine.gradients(examples, BASE_ALONE).loss.total, rel=1e-5)
        assert alone.total != loss.total
        assert loss.total == pytest.approx(wanted.loss.total, rel=1e-5)
        assert found.loss.total == pytest.approx(wanted.loss.total, rel=1e-5)
        assert found.loss.weight == loss.weight == sum(sum(one.weights[1:]) for one in examples)
        engine.close()


def test_layer_by_layer_the_gradients_are_the_same_to_the_last_bit(
    base: Any,
    adapters: dict[str, Any],
    blend: BlendState,
    random_examples: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    examples = random_examples(model_for(base).vocabulary_size, (9, 12, 12, 5))
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach(adapters)
    at_once = engine.gradients(examples, blend, train="a")
    needed = engine.gradient_memory(examples).needed
    monkeypatch.setattr("studio.engine.backend.available_memory", lambda: needed)
    assert engine.gradient_memory(examples).is_short
    by_layer = engine.gradients(examples, blend, train="a")
    assert by_layer.loss == at_once.loss
    for one, other in zip(parts_of(by_layer), parts_of(at_once), strict=True):
        np.testing.assert_array_equal(one, other)


def test_positions_shared_out_among_threads_give_the_same(
    base: Any,
    adapters: dict[str, Any],
    blend: BlendState,
    random_examples: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At once and layer by layer, which is the same to the last bit here, too."""
    examples = random_examples(model_for(base).vocabulary_size, (9, 12, 12, 5))
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    engine.attach(adapters)
    wanted = engine.gradients(examples, blend, train="a")
    monkeypatch.setattr(batch, "LEAST_POSITIONS", 3)
    monkeypatch.setattr(NumpyBackend, "cores", 3)
    shared = engine.gradients(examples, blend, train="a")
    assert largest_distance(shared, wanted) < 1e-4
    assert shared.loss.total == pytest.approx(wanted.loss.total, rel=1e-6)
    needed = engine.gradient_memory(examples).needed
    monkeypatch.setattr("studio.engine.backend.available_memory", lambda: needed)
    by_layer = engine.gradients(examples, blend, train="a")
    for one, other in zip(parts_of(by_layer), parts_of(shared), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.usefixtures("strict_device")
def test_a_device_that_refuses_host_arrays_gives_the_same(
    base: Any, adapters: dict[str, Any], blend: BlendState, random_examples: Make
) -> None:
    examples = random_examples(model_for(base).vocabulary_size, (9, 5))
    found = []
    for name in ("numpy", "cupy"):
        engine = LocalEngine(choose_backend(name), "dense")
        engine.open(base)
        engine.attach(adapters)
        found.append(engine.gradients(examples, blend, train="a"))
        engine.close()
    assert largest_distance(found[1], found[0]) < 1e-5


@pytest.mark.gpu
@pytest.mark.parametrize("residency", ["dense", "quantised"])
def test_a_real_device_gives_the_same(
    cuda_device: str,
    base: Any,
    adapters: dict[str, Any],
    blend: BlendState,
    random_examples: Make,
    residency: Residency,
) -> None:
    examples = random_examples(model_for(base).vocabulary_size, (9, 5))
    found = []
    for name in ("numpy", cuda_device):
        engine = LocalEngine(choose_backend(name), residency)
        engine.open(base)
        engine.attach(adapters)
        found.append(engine.gradients(examples, blend, train="a"))
        engine.close()
    assert largest_distance(found[1], found[0]) < 1e-3


def test_every_architecture_is_tested() -> None:
    tested = set()
    for name in NAMES:
        file = GgufFile.open(FOLDER / f"{name}.gguf")
        tested.add(file.architecture)
        file.close()
    assert tested == set(ARCHITECTURES) and HEAD != EMBEDDING
