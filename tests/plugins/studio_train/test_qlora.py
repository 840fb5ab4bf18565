"""The QLoRA trainer: runs on bases that are quantised, or turned into NF4 first."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import Example, GgufFile, Nf4Base, QloraOptions, TrainingRequest, UnsupportedError
from studio.contracts import Trained
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio_train.trainers import QloraTrainer

OPTIONS = QloraOptions(rank=4, steps=60, learning_rate=0.01, batch=4, validate_every=20, seed=1)


@pytest.fixture
def base(data_dir: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(data_dir / "architectures" / "llama.gguf")
    yield base
    base.close()


@pytest.fixture
def make_request(base: GgufFile) -> Iterator[Callable[[], TrainingRequest]]:
    """Make a request to learn which token follows which."""
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)

    def make() -> TrainingRequest:
        following = np.random.default_rng(1).permutation(30)
        walks = [[start] for start in range(12)]
        for walk in walks:
            while len(walk) < 10:
                walk.append(int(following[walk[-1]]))
        return TrainingRequest(base, engine, tuple(map(Example.of, walks)))

    yield make
    engine.close()


def run(request: TrainingRequest, options: QloraOptions) -> tuple[list[Any], Trained]:
    told, work = [], QloraTrainer().train(request, options)
    while True:
        try:
            told.append(next(work))
        except StopIteration as end:
            assert isinstance(end.value, Trained)
            return told, end.value


def test_it_learns_on_nf4(make_request: Callable[[], TrainingRequest], base: GgufFile) -> None:
    request = make_request()
    engine = request.engine
    assert isinstance(engine, LocalEngine)
    floats = engine.weights.nbytes
    told, trained = run(request, QloraOptions(**{**vars(OPTIONS), "quantise": "nf4"}))
    assert told[0].message == "Turning weights into NF4"
    assert trained.loss < 0.7 * told[1].loss
    assert engine.weights.kind == "quantised" and engine.weights.nbytes < floats
    (examples,) = (request.examples,)
    engine.open(Nf4Base(base))
    alone = engine.losses(examples, [request.state])[0].mean
    assert told[1].loss == pytest.approx(alone, rel=0.2)  # of a batch of them


def test_what_is_quantised_already_is_refused_and_the_engine_keeps_it(
    make_request: Callable[[], TrainingRequest], smollm2_path: Path
) -> None:
    request = make_request()
    quantised = GgufFile.open(smollm2_path)
    tried = TrainingRequest(quantised, request.engine, request.examples)
    with pytest.raises(UnsupportedError, match="Q4_1"):
        run(tried, QloraOptions(quantise="nf4"))
    assert request.engine.losses(request.examples, [request.state])[0].weight
    quantised.close()


def test_what_is_kept_runs_as_it_is(make_request: Callable[[], TrainingRequest]) -> None:
    request = make_request()
    told, trained = run(request, OPTIONS)
    assert trained.loss < 0.7 * told[0].loss
    assert QloraTrainer().memory(request, OPTIONS) > 0
