"""The exporter of merged models, on the real base with its real adapters."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import ExportRequest, FloatArray, GgufFile
from studio.contracts import BASE_ALONE, Exporter, PredictingExporter
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.jobs.options import make_options
from studio.lora.stack import LoraStack
from studio.registry import load_plugins
from studio.session.next_token import divergence, log_softmax

PROMPT = [504, 3575, 282, 4649, 314]


@pytest.fixture(scope="module")
def exporter() -> Exporter:
    return next(one for one in load_plugins().exporters if one.name == "merged base (GGUF)")


@pytest.fixture(scope="module")
def request_(smollm2: GgufFile, adapters_dir: Path) -> ExportRequest:
    """Fortune at 0.8 and legal at 0.5."""
    loader = next(one for one in load_plugins().adapter_loaders if one.name == "PEFT directory")
    stack = LoraStack()
    for name, scale in (("smollm2-fortune", 0.8), ("smollm2-legal", 0.5)):
        stack.push(loader.load(adapters_dir / name, smollm2, loader.Options()), scale)  # type: ignore[arg-type]
    return ExportRequest(smollm2, stack.by_key, stack.blend)


@pytest.fixture(scope="module")
def live(request_: ExportRequest) -> Iterator[tuple[FloatArray, float]]:
    """The live blend's log-probabilities, and their mean distance from the base's."""
    with closing(LocalEngine(choose_backend("numpy"), "dense")) as engine:
        engine.open(request_.base)
        engine.attach(request_.adapters)
        blend = engine.evaluate(PROMPT, request_.state, positions="all").logits
        alone = engine.evaluate(PROMPT, BASE_ALONE, positions="all").logits
    yield blend, mean_distance(blend, alone)


def mean_distance(live: FloatArray, other: FloatArray) -> float:
    pairs = zip(live, other, strict=True)
    return float(np.mean([divergence(log_softmax(one), log_softmax(two)) for one, two in pairs]))


def merged(exporter: Exporter, request: ExportRequest, path: Path, **options: object) -> Any:
    work = exporter.export(request, path, make_options(exporter, options))
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def distance(live: FloatArray, path: Path) -> float:
    with closing(GgufFile.open(path)) as base, closing(LocalEngine(choose_backend("numpy"))) as engine:
        engine.open(base)
        return mean_distance(live, engine.evaluate(PROMPT, BASE_ALONE, positions="all").logits)


def test_in_f16_nothing_is_lost(
    exporter: Exporter, request_: ExportRequest, live: tuple[FloatArray, float], tmp_path: Path
) -> None:
    found = merged(exporter, request_, tmp_path / "out.gguf", type="F16")
    assert distance(live[0], found.path) < 1e-4
    assert found.notes == ("No merged weight is quantised, so rounding loses nothing of the blend.",)


@pytest.mark.parametrize(("rounding", "least", "most"), [("nearest", 0.6, 1.2), ("unbiased", 0.0, 0.35)])
def test_what_a_quantised_base_keeps(
    exporter: Exporter,
    request_: ExportRequest,
    live: tuple[FloatArray, float],
    tmp_path: Path,
    rounding: str,
    least: float,
    most: float,
) -> None:
    found = merged(exporter, request_, tmp_path / "out.gguf", rounding=rounding)
    blend, effect = live
    assert least < distance(blend, found.path) / effect < most
    assert found.path.stat().st_size < request_.base.file_size + 4096
    assert len(found.kept) == 210
    assert "A stacked adapter beside the base loses nothing" in found.notes[-1]


def test_it_tells_its_size_before(exporter: Exporter, request_: ExportRequest, tmp_path: Path) -> None:
    assert isinstance(exporter, PredictingExporter)
    ranks = dict.fromkeys(next(iter(request_.adapters.values())).modules, 8)
    for type_name, most in (("F16", "F16"), ("Q4_K_M", "Q5_0"), ("keep", "Q4_1")):
        options = make_options(exporter, {"type": type_name, "rounding": "nearest"})
        foretold = exporter.predict(request_, ranks, options)
        size = merged(exporter, request_, tmp_path / "out.gguf", **vars(options)).path.stat().st_size
        assert abs(foretold.nbytes - size) < 8192
        assert (foretold.type_name, foretold.merged) == (most, True)
    larger = exporter.predict(request_, ranks, make_options(exporter, {"budget": 1.3}))
    assert larger.nbytes == round(1.3 * request_.base.file_size)


def test_its_options_are_plain_values(exporter: Exporter) -> None:
    options = make_options(exporter, {"type": "Q4_K_M", "budget": "1.5", "seed": "3"})
    assert (options.type, options.budget, options.seed) == ("Q4_K_M", 1.5, 3)
    assert all(isinstance(value, (str, int, float)) for value in vars(options).values())
