"""Evaluations of every architecture go on where an earlier one stopped, on the host and on a device."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendChannel, BlendState, Sampling
from studio.engine import decoder
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.model import EMBEDDING, HEAD
from studio.engine.models import model_for
from studio.formats.gguf_file import GgufFile

Make = Callable[..., Any]
FOLDER = Path(__file__).parents[2] / "data" / "architectures"
NAMES = sorted(path.stem for path in FOLDER.glob("*.gguf"))

ROUNDING = 3e-6
"""By how much these models' logits may differ: passes of other lengths alone round by up to 1.4e-6."""


def relative_error(found: Any, wanted: Any) -> float:
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


def blend(**scales: float) -> BlendState:
    return BlendState(tuple(BlendChannel(key, 1, scale) for key, scale in scales.items()))


@pytest.mark.parametrize("device", [False, True], ids=["host", "device"])
@pytest.mark.parametrize("name", NAMES)
def test_every_architecture_can_go_on(
    name: str, device: bool, memory_base: Make, tiny_adapter: Make, request: pytest.FixtureRequest
) -> None:
    if device:
        request.getfixturevalue("strict_device")
    file = GgufFile.open(FOLDER / f"{name}.gguf")
    dense = memory_base(dict(file.metadata), {tensor: file.dense(tensor) for tensor in file.tensors})
    last = f"blk.{model_for(file).cache_shape.layers - 1}."
    targets = [name for group in model_for(file).linear_groups for name in group if name.startswith(last)]
    with np.load(FOLDER / f"{name}.npz") as arrays:
        tokens = arrays["tokens_0"].tolist()
    adapters = {"late": tiny_adapter(dense, targets), "a": tiny_adapter(dense, [EMBEDDING, HEAD])}
    engine, bare = (
        LocalEngine(choose_backend("cupy" if device else "numpy"), reuse=r) for r in (True, False)
    )
    for one in (engine, bare):
        one.open(file)
        one.attach(adapters)
    half = len(tokens) // 2
    for state in (BASE_ALONE, blend(late=0.5), blend(late=0.3, a=1), blend(a=1)):
        for part in (
            tokens[:half],
            tokens[: half + 1],
            tokens,
            [*tokens[: half - 2], 1, *tokens[half - 1 :]],
        ):
            found = engine.evaluate(part, state).logits
            assert relative_error(found, bare.evaluate(part, state).logits) < ROUNDING
    file.close()


@pytest.mark.parametrize("name", NAMES)
def test_going_on_is_a_run_in_two_passes_to_the_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file = GgufFile.open(FOLDER / f"{name}.gguf")
    with np.load(FOLDER / f"{name}.npz") as arrays:
        tokens = arrays["tokens_0"].tolist()
    engine, bare = (LocalEngine(choose_backend("numpy"), reuse=reuse) for reuse in (True, False))
    for one in (engine, bare):
        one.open(file)
    first = len(tokens) * 2 // 3
    engine.evaluate(tokens[:first], BASE_ALONE)
    found = engine.evaluate(tokens, BASE_ALONE).logits
    monkeypatch.setattr(decoder, "PASS_COLUMNS", first)
    np.testing.assert_array_equal(found, bare.evaluate(tokens, BASE_ALONE).logits)
    file.close()


def test_longrope_goes_on_only_with_positions_turned_alike() -> None:
    file = GgufFile.open(FOLDER / "phi3-longrope.gguf")
    engine, bare = (LocalEngine(choose_backend("numpy"), reuse=reuse) for reuse in (True, False))
    for one in (engine, bare):
        one.open(file)
    original = int(file.metadata["phi3.rope.scaling.original_context_length"])  # type: ignore[arg-type]
    tokens = [1 + position % 30 for position in range(original + 3)]
    for length in (original - 1, original, original + 1, original + 3, original, original + 2):
        found = engine.evaluate(tokens[:length], BASE_ALONE).logits
        assert relative_error(found, bare.evaluate(tokens[:length], BASE_ALONE).logits) < 1e-6
    sampling = Sampling(max_tokens=4)
    within = tokens[: original - 1]  # the stream may become longer than that
    assert list(engine.generate(within, BASE_ALONE, sampling)) == list(
        bare.generate(within, BASE_ALONE, sampling)
    )
    rows = [tokens[: original + offset] for offset in (1, 0, -1, 2)]
    for evaluation in engine.evaluate_batch(rows, [BASE_ALONE] * 4):
        wanted = bare.evaluate(evaluation.tokens, BASE_ALONE).logits
        assert relative_error(evaluation.logits, wanted) < 1e-6
    file.close()
