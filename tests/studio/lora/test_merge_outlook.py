"""What a type's rounding would do to a blend is told from a few rows, and agrees with a real merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from studio.cli.opening import open_session
from studio.cli.output import finish
from studio.contracts import ExportRequest
from studio.jobs.merge_options import Merged, MergeOptions
from studio.jobs.merging import merge
from studio.lora.exported import exported_modules
from studio.lora.gains import over_layers
from studio.lora.merge_outlook import rounding_error
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def request_(smollm2_path: Path, adapters_dir: Path) -> Iterator[ExportRequest]:
    """SmolLM2 with an adapter in its first two layers."""
    adapter = str(adapters_dir / "smollm2-fortune")
    with open_session(str(smollm2_path), [adapter], load_plugins(safe_mode=True)) as session:
        (key,) = session.stack.by_key
        modules = session.stack.by_key[key].modules
        silent = dict.fromkeys(range(2, 30), 0.0)
        session.stack.set_gains(key, over_layers(silent, modules, 30))
        assert session.base is not None
        yield ExportRequest(session.base, dict(session.stack.by_key), session.stack.blend)


def test_a_few_rows_tell_what_a_merge_by_rounding_loses(request_: ExportRequest, tmp_path: Path) -> None:
    modules = exported_modules(request_)
    foretold = rounding_error(request_, modules, "Q4_1")
    merged: Merged = finish(merge(request_, tmp_path / "m.gguf", MergeOptions(rounding="nearest")))
    assert len(merged.kept) == len(modules) == 14
    assert foretold == pytest.approx(np.median([one.error for one in merged.kept]), rel=0.3)


def test_a_finer_type_errs_less(request_: ExportRequest) -> None:
    modules = exported_modules(request_)
    errors = [rounding_error(request_, modules, kind) or 0.0 for kind in ("Q4_1", "Q8_0", "F16")]
    assert errors == sorted(errors, reverse=True) and errors[-1] < 0.05
    assert rounding_error(request_, [], "Q4_1") is None
