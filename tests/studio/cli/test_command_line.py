"""How arguments are read, and what the command exits with."""

from __future__ import annotations

import os
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
    assert parse_adapter(text) == AdapterArgument(path, scale)


def test_a_path_that_exists_as_written_needs_no_escaping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run:2").mkdir()
    assert parse_adapter("run:2") == AdapterArgument("run:2", 1.0)
    assert parse_adapter("run:2:0.5") == AdapterArgument("run:2", 0.5)


@pytest.mark.parametrize("scale", ["nan", "inf", "half", "0,5", ""])
def test_a_word_after_an_adapter_that_exists_is_no_scale(adapters_dir: Path, scale: str) -> None:
    with pytest.raises(typer.BadParameter, match=f"the scale '{scale}' is not a number"):
        parse_adapter(f"{adapters_dir / 'smollm2-fortune'}:{scale}")


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
        ["generate", "base.gguf", "--prompt", "a", "--temperature", "inf"],
        ["generate", "base.gguf", "--prompt", "a", "--top-p", "0"],
        ["generate", "base.gguf", "--prompt", "a", "--min-p", "1.5"],
        ["generate", "base.gguf", "--prompt", "a", "--top-k", "-1"],
        ["generate", "base.gguf", "--prompt", "a", "--max-tokens", "-1"],
        ["eval", "base.gguf", "--file", ""],
        ["eval", "base.gguf", "--tokens", "1", "--logits", ""],
        ["stack", "base.gguf", "--adapter", "a", "-o", ""],
        ["inspect", "a", "--loader-option", "row_order"],
        ["inspect", "a", "--loader-option", "no_such=1"],
        [""],
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
        ["inspect", ""],
        ["eval", "", "--prompt", "empty"],
        ["stack", "base.gguf", "--adapter", "a", "-o", "missing/out.gguf"],
        ["demo", "--headless", "--screenshot", "missing/desk.png"],
        ["demo", "--headless", "--screenshot", "missing.txt"],
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
    assert any(word in outcome.err for word in ("missing", "package", "empty"))


@pytest.mark.parametrize("arguments", [[], ["session.lorastudio.json"]])
def test_without_a_display_the_desk_is_refused(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str]
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.chdir(tmp_path)
    Path("session.lorastudio.json").write_text("{}", encoding="utf-8")
    outcome = cli(*arguments)
    assert outcome.code == 1
    assert "there is no display" in outcome.err
    assert "lora-studio demo" in outcome.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line() -> None:
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "studio.cli", "plugins"], stdout=full, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 1
    assert done.stderr == b"lora-studio: input or output failed: No space left on device\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes break otherwise there")
def test_a_reader_that_left_ends_it_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "studio.cli", "plugins"],
            stdout=writing,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (MemoryError(), "the memory ran out"),
        (PermissionError(13, "Permission denied", "base.gguf"), "base.gguf: Permission denied"),
    ],
)
def test_what_the_system_refuses_is_one_line(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, error: Exception, says: str
) -> None:
    def failing(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("studio.registry.load_plugins", failing)
    outcome = cli("plugins")
    assert outcome.code == 1
    assert outcome.err.startswith(f"lora-studio: {says}")
    assert outcome.err.count("\n") == 1


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
