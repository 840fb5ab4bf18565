"""A real model with real adapters against the exact logits of transformers and PEFT."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Sampling
from studio.engine.backend import Backend, choose_backend
from studio.engine.local import LocalEngine
from studio.errors import EngineError
from studio.formats.gguf_file import GgufFile
from studio_peft.loader import PeftLoader, PeftOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CASES = range(9)


def open_smollm2(path: Path, adapters_dir: Path, backend: Backend) -> LocalEngine:
    """Open the base with all adapters attached by the names of their folders."""
    base = GgufFile.open(path)
    engine = LocalEngine(backend)
    engine.open(base)
    loader = PeftLoader()
    engine.attach(
        {folder.name: loader.load(folder, base, PeftOptions()) for folder in adapters_dir.iterdir()}
    )
    base.close()
    return engine


def blend_of(engine: LocalEngine, scales: dict[str, float]) -> BlendState:
    adapters = engine._bank.adapters  # type: ignore[union-attr]
    return BlendState(tuple(BlendChannel(key, adapters[key].version, scale) for key, scale in scales.items()))


def assert_same_top(logits: Any, expected: Any, count: int = 10, close: float = 2e-3) -> None:
    """The likeliest tokens come in the same order; neighbours closer than `close` may swap."""
    for token, wanted in zip(np.argsort(-logits)[:count], np.argsort(-expected)[:count], strict=True):
        assert token == wanted or abs(expected[token] - expected[wanted]) < close


@pytest.fixture(scope="module")
def engine(smollm2_path: Path, adapters_dir: Path) -> Iterator[LocalEngine]:
    engine = open_smollm2(smollm2_path, adapters_dir, choose_backend("numpy"))
    yield engine
    engine.close()


@pytest.mark.parametrize("number", CASES)
def test_logits_and_scores_are_those_of_peft(engine: LocalEngine, reference: list[Any], number: int) -> None:
    case = reference[number]
    state = blend_of(engine, case.scales)
    last = engine.evaluate(case.tokens, state).logits
    scored = engine.evaluate(case.tokens, state, positions="scores")
    for logits in (last, scored.logits):
        assert np.linalg.norm(logits - case.logits) / np.linalg.norm(case.logits) < 1e-5
        assert_same_top(logits, case.logits)
    assert scored.scores is not None
    assert -scored.scores.mean() == pytest.approx(case.mean_nll, abs=1e-4)


def test_all_cases_are_tested(reference: list[Any]) -> None:
    assert len(reference) == len(CASES)


def test_generation_follows_the_likeliest_token(engine: LocalEngine, reference: list[Any]) -> None:
    case = reference[4]
    state = blend_of(engine, case.scales)
    tokens = list(case.tokens)
    for token in engine.generate(tokens, state, Sampling(max_tokens=5)):
        assert token == int(np.argmax(engine.evaluate(tokens, state).logits))
        tokens.append(token)
    assert len(tokens) == len(case.tokens) + 5


def test_silent_adapters_leave_the_base_to_the_byte(engine: LocalEngine, reference: list[Any]) -> None:
    tokens = reference[6].tokens
    silent = blend_of(engine, {"smollm2-fortune": 0.0, "smollm2-legal": 0.0})
    base_alone = engine.evaluate(tokens, BASE_ALONE).logits
    assert engine.evaluate(tokens, silent).logits.tobytes() == base_alone.tobytes()


@pytest.mark.gpu
def test_a_device_gives_the_reference_too(
    smollm2_path: Path, adapters_dir: Path, reference: list[Any]
) -> None:
    try:
        backend = choose_backend("cupy")
    except EngineError as error:
        pytest.skip(str(error))
    engine = open_smollm2(smollm2_path, adapters_dir, backend)
    for case in reference:
        logits = engine.evaluate(case.tokens, blend_of(engine, case.scales)).logits
        assert np.linalg.norm(logits - case.logits) / np.linalg.norm(case.logits) < 1e-4
        assert_same_top(logits, case.logits)
