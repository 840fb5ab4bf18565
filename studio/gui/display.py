"""What Qt needs of the machine: a display, or drawing offscreen, and system libraries. Imports no Qt."""

from __future__ import annotations

import os
import sys

_LIBRARIES = (
    "libegl1 libgl1 libglib2.0-0 libdbus-1-3 libfontconfig1 libxkbcommon0 "
    "libxcb-icccm4 libxcb-keysyms1 libxcb-cursor0"
)


def has_display() -> bool:
    """Say whether windows can be shown: always on Windows and macOS, with X11 or Wayland elsewhere."""
    if sys.platform in {"win32", "darwin"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def choose_platform(headless: bool = False) -> None:
    """Draw offscreen where there is no display. To be called before the first QApplication.

    Without a display Qt's X11 platform aborts the whole process. A platform the user chose stands.
    """
    if headless or not has_display():
        os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
    os.environ.setdefault("QT_API", "pyside6")


def missing_library(error: ImportError) -> str | None:
    """Say which command installs what Qt lacks, or None when the error is about something else.

    Parameters
    ----------
    error
        What importing Qt raised, such as ``libEGL.so.1: cannot open shared object file``.
    """
    text = str(error)
    if "cannot open shared object file" not in text:
        return None
    library = text.partition(":")[0]
    return f"Qt needs the system library {library}. On Debian or Ubuntu: sudo apt-get install {_LIBRARIES}"
