"""The stack of adapters as a mixing desk: a master strip, one channel strip each, and a place to drop files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.gui.channel_row import Channel


class StackPanel(QWidget):
    """Shows the mixer; the keys in its signals are those of the channels given to `set_channels`."""

    scale_changed = Signal(str, float)
    """(key, scale)."""
    drag_started = Signal(str)
    """(key), or `MASTER` for the master strip: open one undo step."""
    drag_finished = Signal(str)
    """(key), or `MASTER`: close it."""
    mute_toggled = Signal(str, bool)
    """(key, on)."""
    solo_toggled = Signal(str, bool, bool)
    """(key, on, exclusive)."""
    remove_requested = Signal(str)
    """(key)."""
    master_changed = Signal(float)
    """(scale)."""
    add_requested = Signal()
    """The add button: choose adapters to open."""
    paths_dropped = Signal(list)
    """(list[Path]): files or folders dropped on the panel."""

    def set_channels(self, channels: Sequence[Channel]) -> None:
        """Show these channels, in this order. Strips are kept by key, so a strip being dragged stays alive."""

    def set_master(self, scale: float) -> None:
        """Show the master scale."""

    def set_adding_enabled(self, enabled: bool) -> None:
        """Say whether adapters can be added now."""


MASTER = ""
"""The key of the master strip in `drag_started` and `drag_finished`."""
