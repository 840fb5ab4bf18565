"""`lora-studio export`: a blend by any exporter."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

Cli = Callable[..., Any]


def test_a_blend_is_written_in_any_format(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "architectures"
    blend = (folder / "llama.gguf", "--adapter", f"{folder / 'llama-peft'}:0.5")
    report = cli("export", *blend, "-o", tmp_path / "peft", "--gains", "attention", "--verify", "--json").json
    assert (report["format"], report["verified"]["passed"], report["notes"]) == ("PEFT directory", True, [])
    again = cli("verify", *blend, "--gains", "attention", tmp_path / "peft", "--json").json
    assert again == report["verified"]
    assert cli("verify", *blend, tmp_path / "peft").code == 3  # all modules sound there
    merged = cli("export", *blend, "-o", tmp_path / "merged", "--to", "hugging", "--option", "type=F16")
    assert merged.code == 0, merged.err
    assert "merged model (Hugging Face)" in merged.out
    assert (tmp_path / "merged" / "config.json").exists()


def test_what_cannot_be_read_back_cannot_be_verified(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    folder = data_dir / "architectures"
    blend = (folder / "llama.gguf", "--adapter", folder / "llama-peft")
    refused = cli("export", *blend, "-o", tmp_path / "out", "--to", "hugging", "--verify")
    assert (refused.code, "does not read a merged model (Hugging Face) back" in refused.err) == (1, True)
    assert not (tmp_path / "out").exists()
