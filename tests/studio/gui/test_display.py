"""Without a display the desk draws offscreen, and a missing system library becomes one line of advice."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from studio.gui.display import choose_platform, has_display, missing_library


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A Linux machine without any display or choice of platform."""
    monkeypatch.setattr(sys, "platform", "linux")
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.setenv(name, "unset later")  # so that monkeypatch restores it
        monkeypatch.delenv(name)
    return monkeypatch


def test_no_display_means_offscreen(bare: pytest.MonkeyPatch) -> None:
    assert not has_display()
    choose_platform()
    assert os.environ["QT_QPA_PLATFORM"] == "offscreen"


def test_a_display_is_used(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("WAYLAND_DISPLAY", "wayland-0")
    choose_platform()
    assert "QT_QPA_PLATFORM" not in os.environ


def test_a_chosen_platform_stands(bare: pytest.MonkeyPatch) -> None:
    bare.setenv("QT_QPA_PLATFORM", "minimal")
    choose_platform(headless=True)
    assert os.environ["QT_QPA_PLATFORM"] == "minimal"


def test_a_missing_library_is_named_with_its_remedy() -> None:
    advice = missing_library(ImportError("libEGL.so.1: cannot open shared object file: No such file"))
    assert advice is not None
    assert "libEGL.so.1" in advice
    assert "apt-get install libegl1" in advice
    assert missing_library(ImportError("No module named 'nonsense'")) is None


def test_it_imports_no_qt() -> None:
    code = "import studio.gui.display, sys; sys.exit('PySide6' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
