"""`lora-studio verify`, and `--verify` of the commands that export."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


@pytest.fixture
def base(data_dir: Path) -> Path:
    return data_dir / "architectures" / "llama.gguf"


@pytest.fixture
def adapter(data_dir: Path) -> Path:
    return data_dir / "architectures" / "llama-peft"


def test_a_stack_is_verified_as_it_is_written_and_afterwards(
    cli: Cli, base: Path, adapter: Path, tmp_path: Path
) -> None:
    blend = ("--adapter", f"{adapter}:0.5")
    out = tmp_path / "out.gguf"
    proof = cli("stack", base, *blend, "-o", out, "--type", "F16", "--verify", "--json").json["verified"]
    assert proof["passed"] is True
    assert (proof["kind"], proof["type"], proof["modules"]) == ("adapter", "F16", {})
    again = cli("verify", base, *blend, out, "--json").json
    assert again == proof
    shown = cli("verify", base, *blend, out, "--prompt", "the fox and the dog", "--prompt", "the hen")
    assert (shown.code, shown.err) == (0, "")
    assert "The file answers as the live blend does." in shown.out


def test_a_file_that_differs_fails_with_its_own_exit_code(
    cli: Cli, base: Path, adapter: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.gguf"
    cli("stack", base, "--adapter", f"{adapter}:0.5", "-o", out)
    outcome = cli("verify", base, "--adapter", f"{adapter}:-0.5", out)
    assert outcome.code == 3
    assert "FAILED" in outcome.out
    outcome = cli("verify", base, "--adapter", f"{adapter}:-0.5", out, "--json")
    assert outcome.code == 3
    assert '"passed": false' in outcome.out


def test_the_text_can_come_from_a_file(cli: Cli, base: Path, adapter: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the field and the fox")
    out = tmp_path / "out.gguf"
    cli("stack", base, "--adapter", adapter, "-o", out)
    assert cli("verify", base, "--adapter", adapter, out, "--file", text, "--json").json["positions"] > 5
    assert cli("verify", base, "--adapter", adapter, out, "--file", tmp_path / "missing").code == 1


def test_a_blend_by_a_method_is_verified_as_that(cli: Cli, base: Path, adapter: Path, tmp_path: Path) -> None:
    blend = ("--adapter", f"{adapter}:0.5", "--adapter", f"{adapter}:-1")
    method = ("--method", "ties", "--method-option", "density=0.3", "--rank", 2)
    out = tmp_path / "out.gguf"
    proof = cli("stack", base, *blend, *method, "-o", out, "--verify", "--json").json["verified"]
    assert (proof["passed"], proof["method"]) == (True, "ties, cut")
    assert proof["moved"] > 1e-3
    assert cli("verify", base, *blend, *method, out, "--json").json == proof
    assert cli("verify", base, *blend, out).code == 3
    shown = cli("verify", base, *blend, *method, out)
    assert "KL(combined || live): ties, cut" in shown.out


def test_bare_weights_are_verified_with_their_alpha(
    cli: Cli, base: Path, adapter: Path, tmp_path: Path
) -> None:
    config = json.loads((adapter / "adapter_config.json").read_text())
    bare = tmp_path / "bare.safetensors"
    bare.write_bytes((adapter / "adapter_model.safetensors").read_bytes())
    outcome = cli("verify", base, "--adapter", adapter, bare, "--alpha", config["lora_alpha"])
    assert (outcome.code, outcome.err) == (0, "")


@pytest.mark.parametrize("command", ["stack", "merge", "export", "convert"])
def test_a_text_to_verify_on_needs_verify(
    cli: Cli, base: Path, adapter: Path, tmp_path: Path, command: str
) -> None:
    blend = (adapter, "--base", base) if command == "convert" else (base, "--adapter", adapter)
    outcome = cli(command, *blend, "-o", tmp_path / "out.gguf", "--prompt", "the fox")
    assert outcome.code == 2
    assert "it is a text for --verify" in outcome.err
    assert not (tmp_path / "out.gguf").exists()
