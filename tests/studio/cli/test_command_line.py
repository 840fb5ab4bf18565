"""How arguments are read, and what the command exits with."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

from studio.cli import main as main_module
from studio.cli.command_line import AdapterArgument, parse_adapter
from studio.errors import CancelledError


@pytest.mark.parametrize(
    ("text", "path", "scale"),
    [
        ("pirate.gguf", "pirate.gguf", 1.0),
        ("pirate.gguf:0.5", "pirate.gguf", 0.5),
        ("pirate.gguf:-0.3", "pirate.gguf", -0.3),
        ("pirate.gguf:+2", "pirate.gguf", 2.0),
        ("pirate.gguf:.5e1", "pirate.gguf", 5.0),
        ("pirate.gguf:0", "pirate.gguf", 0.0),
        (r"C:\adapters\pirate", r"C:\adapters\pirate", 1.0),
        (r"C:\adapters\pirate:0.25", r"C:\adapters\pirate", 0.25),
        ("runs:monday/pirate", "runs:monday/pirate", 1.0),
        ("runs:monday/pirate:2", "runs:monday/pirate", 2.0),
        ("pirate:nan", "pirate:nan", 1.0),
    ],
)
def test_an_adapter_is_a_path_and_perhaps_a_scale(text: str, path: str, scale: float) -> None:
    assert parse_adapter(text) == AdapterArgument(Path(path), scale)


def test_a_path_that_exists_as_written_needs_no_escaping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run:2").mkdir()
    assert parse_adapter("run:2") == AdapterArgument(Path("run:2"), 1.0)
    assert parse_adapter("run:2:0.5") == AdapterArgument(Path("run:2"), 0.5)


@pytest.mark.parametrize("text", [":0.5", "", "pirate:1e999"])
def test_an_adapter_without_a_path_or_a_finite_scale_is_wrong_usage(text: str) -> None:
    with pytest.raises(typer.BadParameter):
        parse_adapter(text)


@pytest.mark.parametrize(
    "arguments",
    [
        ["eval"],
        ["eval", "base.gguf"],
        ["eval", "base.gguf", "--prompt", "a", "--tokens", "1"],
        ["eval", "base.gguf", "--tokens", "1,x"],
        ["eval", "base.gguf", "--tokens", "-1"],
        ["eval", "base.gguf", "--prompt", "a", "--adapter", "x:1e999"],
        ["eval", "base.gguf", "--prompt", "a", "--backend", "abacus"],
        ["generate", "base.gguf"],
        ["generate", "base.gguf", "--prompt", "a", "--temperature", "-1"],
        ["generate", "base.gguf", "--prompt", "a", "--temperature", "nan"],
        ["stack", "base.gguf", "-o", "out.gguf"],
        ["stack", "base.gguf", "--adapter", "a", "-o", "out.gguf", "--type", "Q4_0"],
        ["tokenize", "base.gguf"],
        ["tokenize", "base.gguf", "text", "--file", "f"],
        ["inspect"],
        ["demo", "--screenshot", "desk.png"],
        ["evl", "base.gguf"],
        ["--no-such-option"],
    ],
)
def test_wrong_usage_exits_2_and_says_so_on_stderr(cli: Callable[..., Any], arguments: list[str]) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 2
    assert "Usage: lora-studio" in outcome.err
    assert outcome.out == ""


@pytest.mark.parametrize(
    "arguments",
    [
        ["inspect", "missing.gguf"],
        ["eval", "missing.gguf", "--prompt", "a", "--json"],
        ["eval", "package:no-such-distribution/base.gguf", "--prompt", "a", "--json"],
        ["tokenize", "missing.gguf", "text", "--json"],
        ["generate", "missing.gguf", "--prompt", "a", "--json"],
        ["missing.lorastudio.json"],
    ],
)
def test_a_refused_input_exits_1_with_one_line_on_stderr(
    cli: Callable[..., Any], arguments: list[str]
) -> None:
    outcome = cli(*arguments)
    assert outcome.code == 1
    assert outcome.out == ""
    assert outcome.err.startswith("lora-studio: ")
    assert outcome.err.count("\n") == 1
    assert arguments[-1].split("/")[-1] in outcome.err or "missing" in outcome.err or "package" in outcome.err


@pytest.mark.parametrize("interruption", [KeyboardInterrupt, CancelledError])
def test_ctrl_c_exits_130_without_a_traceback(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, interruption: type[BaseException]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise interruption

    monkeypatch.setattr("studio.registry.load_plugins", interrupted)
    outcome = cli("plugins")
    assert outcome.code == main_module.INTERRUPTED
    assert "Traceback" not in outcome.err


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    script = (
        "import sys; from studio.cli.main import main\n"
        "sys.argv = ['lora-studio', '--help']\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    for command in ("demo", "inspect", "tokenize", "eval", "generate", "stack", "plugins"):
        assert f"\n  {command} " in done.stdout
    assert not {"PySide6", "pyqtgraph", "tokenizers", "jinja2", "pluggy"} & set(done.stderr.split())
