"""The tables of the guides name what there is: commands and options, methods, findings, formats."""

from __future__ import annotations

import ast
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer

from studio.cli.main import app
from studio.registry import Registry, load_plugins

ROOT = Path(__file__).parent.parent

COMMON = {"--alpha", "--output", "--special", "--help"}
"""What the head of the guide explains for all commands, `-o`, and the opposite of `--no-special`."""


def guide(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def section(text: str, heading: str) -> str:
    """Return what stands under a heading, up to the next one."""
    return text.split(f"\n## {heading}\n")[1].split("\n## ")[0]


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


def commands() -> dict[str, set[str]]:
    """Return the options of each command, by their long names."""
    group: Any = typer.main.get_command(app)
    return {
        name: {max(option.opts, key=len) for option in command.params if option.param_type_name == "option"}
        for name, command in group.commands.items()
        if not command.hidden
    }


@pytest.mark.parametrize("name", commands())
def test_the_usage_of_a_command_names_all_its_options_and_no_others(name: str) -> None:
    usage = re.findall(r"^`lora-studio (.*)`$", section(guide("cli.md"), name), flags=re.MULTILINE)[0]
    told = set(re.findall(r"--[a-z][a-z0-9-]*", usage)) - {"--no-special"}
    assert told - COMMON == commands()[name] - COMMON


def test_every_method_of_combining_is_tabled_with_its_options(plugins: Registry) -> None:
    text = guide("combining.md")
    rows = dict(re.findall(r"^\| `(\w+)` \|[^|]*\|([^|]*)\| (?:factors|dense)", text, flags=re.MULTILINE))
    own = {
        method.name: {field.name for field in fields(method.Options)} for method in plugins.combine_methods
    }
    told: dict[str, set[str]] = {}
    for name, cell in rows.items():
        words = set(re.findall(r"`(\w+)`", cell))
        told[name] = words - set(rows) | {option for other in words & set(rows) for option in told[other]}
    assert told == own
    explained = set(re.findall(r"^\| `(\w+)` \|", section(text, "Options"), flags=re.MULTILINE))
    limits = {"rank", "energy"}  # told in the text above
    assert explained | limits == set().union(*own.values())


def test_every_finding_of_the_linter_is_tabled() -> None:
    found = {
        call.args[0].value
        for folder in ("studio", "plugins")
        for path in (ROOT / folder).rglob("*.py")
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "Finding"
        and isinstance(call.args[0], ast.Constant)
    }
    rows = re.findall(r"^\| (`.*?`) \|", section(guide("formats.md"), "The linter"), flags=re.MULTILINE)
    assert {topic for row in rows for topic in re.findall(r"`([a-z-]+)`", row)} == found - {"refused"}


def test_every_option_of_an_exporter_and_a_loader_is_explained(plugins: Registry) -> None:
    text = guide("formats.md") + guide("merging.md") + guide("cli.md")
    for extension in (*plugins.exporters, *plugins.adapter_loaders):
        for field in fields(extension.Options):
            names = (f"`{field.name}", f"--{field.name.replace('_', '-')}", f"{field.name}=")
            assert any(name in text for name in names), f"{extension.name}: {field.name}"


def test_every_format_is_named(plugins: Registry) -> None:
    text = guide("formats.md")
    rows = re.findall(r"^\| ([^|`]*?) \| ", section(text, "Adapters: what is read"), flags=re.MULTILINE)
    for loader in plugins.adapter_loaders:
        assert any(loader.name.removesuffix(" adapter") in row for row in rows), loader.name
    for exporter in plugins.exporters:
        kind = exporter.name.removesuffix(" (GGUF)")
        assert exporter.name in text or kind in text, exporter.name
