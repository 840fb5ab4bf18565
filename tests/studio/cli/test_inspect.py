"""`lora-studio inspect` and `lora-studio plugins`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from studio.resources import DEMO_BASE


def test_a_base_is_described(cli: Callable[..., Any]) -> None:
    (base,) = cli("inspect", DEMO_BASE, "--json").json["files"]
    assert base["kind"] == "base"
    assert base["architecture"] == "llama"
    assert base["type"] == "Q4_1"
    assert base["bytes"] == 98_362_432
    assert base["layers"] == 30
    assert base["vocabulary"] == 49152


def test_an_adapter_is_described_alone_and_against_a_base(
    cli: Callable[..., Any], adapters_dir: Path, data_dir: Path
) -> None:
    files = (adapters_dir / "smollm2-python", data_dir / "smollm2-fortune-f16.gguf")
    alone, llama_cpp = cli("inspect", *files, "--json").json["files"]
    assert (alone["kind"], alone["modules"], alone["ranks"]) == ("adapter", 60, [16])
    assert alone["matched"] is None
    assert (llama_cpp["kind"], llama_cpp["modules"], llama_cpp["ranks"]) == ("adapter", 210, [8])
    against, _ = cli("inspect", *files, "--base", DEMO_BASE, "--json").json["files"]
    assert against["matched"] == 60
    assert against["unmatched"] == []
    assert against["norm"] > 0


def test_people_get_the_report(cli: Callable[..., Any], adapters_dir: Path) -> None:
    outcome = cli("inspect", DEMO_BASE, adapters_dir / "smollm2-fortune", "--base", DEMO_BASE)
    assert "210 of 210 modules" in outcome.out
    assert "Q4_1" in outcome.out


def test_plugins_list_what_each_provides(cli: Callable[..., Any]) -> None:
    plugins = {plugin["name"]: plugin for plugin in cli("plugins", "--json").json["plugins"]}
    assert plugins["peft"]["error"] is None
    assert plugins["peft"]["distribution"] == "lora-studio"
    assert "exporter: stacked adapter (GGUF)" in plugins["gguf"]["provides"]
    assert "PEFT directory" in cli("--safe-mode", "plugins").out
