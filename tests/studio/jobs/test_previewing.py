"""What is foretold of an export is what is written, by every exporter that comes with the studio."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from studio.cli.opening import open_session
from studio.cli.output import finish
from studio.contracts import ExportRequest, PredictingExporter
from studio.jobs.exporting import export
from studio.jobs.previewing import preview
from studio.lora.algebra import RankLimit
from studio.lora.blend_measure import measure_blend
from studio.lora.limiting import limited
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from studio.lora.blend_measure import BlendMeasure

WHOLE = RankLimit()


@pytest.fixture(scope="module")
def legal(smollm2_path: Path, adapters_dir: Path) -> Iterator[ExportRequest]:
    """SmolLM2 with an adapter of the ranks 4 to 16."""
    plugins = load_plugins(safe_mode=True)
    with open_session(str(smollm2_path), [str(adapters_dir / "smollm2-legal")], plugins) as session:
        assert session.base is not None
        yield ExportRequest(session.base, dict(session.stack.by_key), session.stack.blend)


@pytest.fixture(scope="module")
def measure(legal: ExportRequest) -> BlendMeasure:
    found: BlendMeasure = finish(measure_blend(legal))
    return found


@pytest.mark.parametrize(
    ("name", "options", "limit"),
    [
        ("stacked adapter (GGUF)", {}, WHOLE),
        ("stacked adapter (GGUF)", {"type": "Q8_0", "uniform_rank": True}, RankLimit(6)),
        ("PEFT directory", {"type": "F16"}, WHOLE),
        ("MLX directory", {}, RankLimit(energy=0.7)),
        ("zerfoo adapter (GGUF)", {}, WHOLE),
    ],
)
def test_the_size_is_foretold_to_a_twentieth(
    legal: ExportRequest,
    measure: BlendMeasure,
    tmp_path: Path,
    name: str,
    options: dict[str, Any],
    limit: RankLimit,
) -> None:
    exporter = next(one for one in load_plugins(safe_mode=True).exporters if one.name == name)
    path = tmp_path / f"blend{exporter.suffix}"
    made = exporter.Options(**options)
    found = finish(preview(legal, exporter, made, path, measure, limit))
    request = ExportRequest(legal.base, legal.adapters, legal.state, limited(None, limit))
    finish(export(request, exporter, path, made))
    files = [path] if path.is_file() else list(path.iterdir())
    assert found.prediction is not None
    assert found.prediction.nbytes == pytest.approx(sum(file.stat().st_size for file in files), rel=0.05)
    assert found.fits


def test_every_exporter_of_ours_says_what_it_is_and_foretells(
    legal: ExportRequest, measure: BlendMeasure, tmp_path: Path
) -> None:
    for exporter in load_plugins(safe_mode=True).exporters:
        assert isinstance(exporter, PredictingExporter), exporter.name
        assert exporter.summary.endswith(".") and len(exporter.summary) < 100
        found = finish(preview(legal, exporter, exporter.Options(), tmp_path / "x", measure, WHOLE))
        assert found.prediction is not None
        assert found.prediction.merged == ("merged" in exporter.name)
