"""`lora-studio lint`, its findings in `inspect`, and `--alpha`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.resources import DEMO_BASE

Cli = Callable[..., Any]


def test_findings_are_data(cli: Cli, adapters_dir: Path, data_dir: Path) -> None:
    files = (adapters_dir / "smollm2-legal", data_dir / "smollm2-fortune-f16.gguf")
    legal, fortune = cli("lint", *files, "--base", DEMO_BASE, "--json").json["files"]
    assert (legal["path"], legal["format"]) == (str(files[0]), "PEFT directory")
    assert [finding["topic"] for finding in legal["findings"]] == [
        "alpha-pattern",
        "unequal-ranks",
        "permutation",
    ]
    first = legal["findings"][0]
    assert set(first) == {"topic", "severity", "message", "programs", "remedy", "where"}
    assert {"program": "MLX", "does": "has one scale a file"} in first["programs"]
    assert fortune["findings"] == []


def test_people_are_told_the_remedy(cli: Cli, adapters_dir: Path, data_dir: Path) -> None:
    outcome = cli("lint", adapters_dir / "smollm2-python", data_dir / "smollm2-fortune-f16.gguf")
    assert outcome.code == 0
    assert "warning: It is rsLoRA" in outcome.out
    assert "    remedy: Export the blend" in outcome.out
    assert "nothing to report; --base may tell more" in outcome.out
    outcome = cli("lint", data_dir / "smollm2-fortune-f16.gguf", "--base", DEMO_BASE)
    assert "nothing to report: every program that reads it reads it alike" in outcome.out


def test_a_refused_adapter_is_a_finding_and_exits_with_1(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no adapter")
    outcome = cli("lint", tmp_path / "notes.txt")
    assert outcome.code == 1
    assert "error: this is neither a base nor an adapter [refused]" in outcome.out


def test_inspecting_tells_the_findings(cli: Cli, adapters_dir: Path) -> None:
    (entry,) = cli("inspect", adapters_dir / "smollm2-python", "--json").json["files"]
    assert [finding["topic"] for finding in entry["findings"]] == ["rslora"]
    assert "[rslora]" in cli("inspect", adapters_dir / "smollm2-python").out


@pytest.mark.parametrize("command", ["inspect", "lint"])
def test_alpha_is_for_bare_weights(cli: Cli, adapters_dir: Path, tmp_path: Path, command: str) -> None:
    bare = tmp_path / "bare"
    bare.write_bytes((adapters_dir / "smollm2-python" / "adapter_model.safetensors").read_bytes())
    refused = cli(command, bare)
    assert refused.code == 1
    assert "--alpha NUMBER" in refused.err + refused.out
    assert cli(command, bare, "--alpha", "16").code == 0
    assert cli(command, bare, "--loader-option", "alpha=16").code == 0


def test_bare_weights_sound_like_the_adapter_they_came_from(
    cli: Cli, adapters_dir: Path, tmp_path: Path
) -> None:
    """rsLoRA is alpha / sqrt(16): four times the alpha gives the same scaling."""
    bare = tmp_path / "bare"
    bare.write_bytes((adapters_dir / "smollm2-python" / "adapter_model.safetensors").read_bytes())
    words = ("--tokens", "1,2,3", "--top-k", "1", "--json")
    whole = cli("eval", DEMO_BASE, "--adapter", adapters_dir / "smollm2-python", *words).json
    alone = cli("eval", DEMO_BASE, "--adapter", bare, "--alpha", "64", *words).json
    assert alone["top"][0]["logit"] == pytest.approx(whole["top"][0]["logit"], rel=1e-5)
