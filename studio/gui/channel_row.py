"""One channel strip: an adapter's name, fader, exact scale, mute, solo and remove."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QFrame, QWidget


@dataclass(frozen=True)
class Channel:
    """What one strip shows.

    Attributes
    ----------
    key
        The adapter's key on the stack; every signal names it.
    name
        The adapter's name.
    details
        The line under the fader, such as ``r8 · 210/210 · ‖Δ‖ 1.9 %``.
    scale
        1.0 = as trained.
    audible
        False dims the strip: muted, or another one is soloed.
    warning
        Why the adapter only partly works (unmatched modules); empty when all is well. Shown as a tool tip and a mark.
    """

    key: str
    name: str
    details: str = ""
    scale: float = 1.0
    muted: bool = False
    soloed: bool = False
    audible: bool = True
    warning: str = ""


class ChannelRow(QFrame):
    """A channel strip. Its setters never emit; its signals come from the user alone."""

    scale_changed = Signal(str, float)
    """(key, scale): on every move."""
    drag_started = Signal(str)
    """(key): a drag, or a held arrow key, begins; one undo step ends with `drag_finished`."""
    drag_finished = Signal(str)
    """(key): the drag ended."""
    mute_toggled = Signal(str, bool)
    """(key, on)."""
    solo_toggled = Signal(str, bool, bool)
    """(key, on, exclusive): exclusive when Shift was held."""
    remove_requested = Signal(str)
    """(key)."""

    def __init__(self, channel: Channel, colour_index: int = 0, parent: QWidget | None = None) -> None:
        super().__init__(parent)

    def set_channel(self, channel: Channel) -> None:
        """Show these values."""
