"""Generation: base and blend streamed side by side, and how they are sampled."""

from __future__ import annotations

from typing import Literal, TypeAlias

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget

from studio.contracts import Sampling

Side: TypeAlias = Literal["base", "blend"]


class GenerationPanel(QWidget):
    """Two streams and their controls."""

    generate_requested = Signal()
    """The Generate button; the sampling is the one last emitted, also as `sampling`."""
    stop_requested = Signal()
    """The Stop button."""
    sampling_changed = Signal(object)
    """(Sampling): a control was changed."""

    @property
    def sampling(self) -> Sampling:
        """Where the controls stand."""
        return Sampling()

    def set_sampling(self, sampling: Sampling) -> None:
        """Show where the controls stand."""

    def clear(self) -> None:
        """Empty both streams."""

    def append(self, side: Side, piece: str) -> None:
        """Add one token's text to a stream; from the first token that differs on, the blend's are marked."""

    def set_status(self, side: Side, text: str) -> None:
        """Show a short status beside a stream's heading, such as ``34 tokens · 21/s``."""

    def set_running(self, running: bool) -> None:
        """Switch between Generate and Stop."""

    def set_enabled(self, enabled: bool, reason: str = "") -> None:
        """Say whether generating is possible now, and if not, why (a tool tip)."""
