"""`lora-studio demo` on a machine without a display."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def test_without_a_display_it_prints_the_blend_and_saves_a_picture(tmp_path: Path) -> None:
    picture = tmp_path / "desk.png"
    command = [sys.executable, "-m", "studio.cli", "demo", "--headless", "--screenshot", str(picture)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    assert "scripture at scale 1, 210 of 210 modules matched" in done.stdout
    assert "KL(blend || base)" in done.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_without_qts_system_libraries_it_runs_as_text(
    cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    class Missing:
        """Fails like an import of Qt where a system library is missing."""

        def find_spec(self, name: str, *_: object) -> None:
            if name == "studio.gui.screenshot":
                raise ImportError("libEGL.so.1: cannot open shared object file: No such file or directory")

    monkeypatch.delitem(sys.modules, "studio.gui.screenshot", raising=False)
    monkeypatch.setattr(sys, "meta_path", [Missing(), *sys.meta_path])
    monkeypatch.chdir(tmp_path)
    outcome = cli("demo", "--headless")
    assert outcome.code == 0
    assert "KL(blend || base)" in outcome.out
    assert "apt-get install libegl1" in outcome.out
    assert not list(tmp_path.iterdir())
