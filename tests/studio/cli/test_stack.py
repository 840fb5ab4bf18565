"""`lora-studio stack`: the blend as one adapter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.cli.output import finish
from studio.formats.gguf_writer import write_gguf
from studio.jobs.opening import load_adapter, open_base
from studio.registry import load_plugins


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
    blend += ["--gains", "1=attention", "--gains", "smollm2-python=0:1/29:-0.5"]
    written = cli("stack", smollm2_path, *blend, "-o", stacked, "--type", type_name, "--json").json
    assert written == {"path": str(stacked), "bytes": stacked.stat().st_size}
    prompt = ("--prompt", "def fibonacci(n):", "--last", "--json", "--logits")
    cli("eval", smollm2_path, *blend, *prompt, tmp_path / "blend.npy").json  # noqa: B018 - asserts that it went well
    cli("eval", smollm2_path, "--adapter", stacked, *prompt, tmp_path / "stacked.npy").json  # noqa: B018
    live, reloaded = np.load(tmp_path / "blend.npy"), np.load(tmp_path / "stacked.npy")
    assert np.linalg.norm(reloaded - live) < tolerance * np.linalg.norm(live)


@pytest.mark.parametrize("scales", ["1e9,1", "-1e9,1e-9"])
def test_a_stack_at_extreme_scales_in_f16_is_the_blend_still(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path, tmp_path: Path, scales: str
) -> None:
    """Such a blend cannot run, but its delta is finite, and the stack keeps it."""
    plugins = load_plugins(safe_mode=True)
    names = [adapters_dir / "smollm2-fortune", adapters_dir / "smollm2-python"]
    numbers = [float(scale) for scale in scales.split(",")]
    blend = [f"--adapter={name}:{scale}" for name, scale in zip(names, numbers, strict=True)]
    cli("stack", smollm2_path, *blend, "-o", tmp_path / "stack.gguf", "--type", "F16", "--json").json  # noqa: B018 - asserts that it went well
    base = finish(open_base(smollm2_path, plugins)).base
    try:
        parts = [finish(load_adapter(name, base, plugins)).adapter for name in names]
        stacked = finish(load_adapter(tmp_path / "stack.gguf", base, plugins)).adapter
    finally:
        base.close()
    for module in ("blk.0.attn_q.weight", "blk.29.attn_v.weight"):
        x = np.random.default_rng(0).standard_normal((4, 576)).astype(np.float32)
        expected = sum(
            np.float64(scale) * part.delta(module, x) for part, scale in zip(parts, numbers, strict=True)
        )
        found = stacked.delta(module, x)
        assert np.linalg.norm(found - expected) < 2e-3 * np.linalg.norm(expected)


def test_the_base_is_never_overwritten(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path, tmp_path: Path
) -> None:
    link = tmp_path / "out.gguf"
    link.symlink_to(smollm2_path)
    outcome = cli("stack", smollm2_path, "--adapter", adapters_dir / "smollm2-python", "-o", link)
    assert outcome.code == 1
    assert smollm2_path.stat().st_size == 98_362_432


def test_an_architecture_that_nobody_knows_is_inspected_and_stacked_but_not_run(
    cli: Callable[..., Any], tmp_path: Path, adapters_dir: Path
) -> None:
    module = "blk.0.mixer.weight"
    base, adapter, stacked = (tmp_path / name for name in ("nova.gguf", "adapter.gguf", "stacked.gguf"))
    write_gguf(base, {"general.architecture": "nova"}, {module: np.ones((6, 4), np.float32)})
    keys: dict[str, Any] = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 2.0}
    factors = {
        f"{module}.lora_a": np.ones((2, 4), np.float32),
        f"{module}.lora_b": np.ones((6, 2), np.float32),
    }
    write_gguf(adapter, {"general.architecture": "nova", **keys}, factors)
    cli("stack", base, "--adapter", f"{adapter}:0.5", "-o", stacked, "--json").json  # noqa: B018 - asserts that it went well
    _, report = cli("inspect", base, stacked, "--base", base, "--json").json["files"]
    assert report["matched"] == 1
    assert report["norms"][module] == pytest.approx(np.sqrt(24))
    refused = cli("eval", base, "--adapter", adapter, "--tokens", "1")
    assert (refused.code, "'nova'" in refused.err) == (1, True)
    refused = cli("stack", base, "--adapter", adapters_dir / "smollm2-fortune", "-o", stacked)
    assert (refused.code, "module names of architecture 'nova'" in refused.err) == (1, True)
