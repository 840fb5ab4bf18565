"""`lora-studio stack`: the blend as one adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.mark.parametrize(("type_name", "tolerance"), [("F32", 1e-4), ("F16", 2e-3)])
def test_the_stack_loaded_at_scale_1_is_the_blend(
    cli: Callable[..., Any],
    smollm2_path: Path,
    adapters_dir: Path,
    tmp_path: Path,
    type_name: str,
    tolerance: float,
) -> None:
    blend = [
        option
        for one in ("fortune:0.5", "python:1", "legal:-0.3")
        for option in ("--adapter", str(adapters_dir / f"smollm2-{one}"))
    ]
    stacked = tmp_path / "stacked.gguf"
    written = cli("stack", smollm2_path, *blend, "-o", stacked, "--type", type_name, "--json").json
    assert written == {"path": str(stacked), "bytes": stacked.stat().st_size}
    prompt = ("--prompt", "def fibonacci(n):", "--last", "--json", "--logits")
    cli("eval", smollm2_path, *blend, *prompt, tmp_path / "blend.npy").json  # noqa: B018 - asserts that it went well
    cli("eval", smollm2_path, "--adapter", stacked, *prompt, tmp_path / "stacked.npy").json  # noqa: B018
    live, reloaded = np.load(tmp_path / "blend.npy"), np.load(tmp_path / "stacked.npy")
    assert np.linalg.norm(reloaded - live) < tolerance * np.linalg.norm(live)


def test_the_base_is_never_overwritten(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path, tmp_path: Path
) -> None:
    link = tmp_path / "out.gguf"
    link.symlink_to(smollm2_path)
    outcome = cli("stack", smollm2_path, "--adapter", adapters_dir / "smollm2-python", "-o", link)
    assert outcome.code == 1
    assert smollm2_path.stat().st_size == 98_362_432
