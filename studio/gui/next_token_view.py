"""The next token's distribution, base beside blend, as bars."""

from __future__ import annotations

from dataclasses import dataclass

from PySide6.QtCore import Signal
from PySide6.QtWidgets import QWidget


@dataclass(frozen=True)
class Candidate:
    """One candidate: its token id, its text, and its probability under base and blend."""

    token: int
    piece: str
    base: float
    blend: float


@dataclass(frozen=True)
class NextToken:
    """What the view shows: candidates, likeliest first; KL(blend || base) and entropies in nats; the pass's time."""

    candidates: tuple[Candidate, ...]
    kl: float
    base_entropy: float
    blend_entropy: float
    milliseconds: float


class NextTokenView(QWidget):
    """Shows one `NextToken` at a time."""

    piece_activated = Signal(str)
    """(piece): a candidate was double-clicked or chosen with Return: append it to the prompt."""

    def set_result(self, result: NextToken | None) -> None:
        """Show a result; None empties the view."""

    def set_message(self, message: str) -> None:
        """Show why there is nothing to show, in place of bars; empty returns to the bars."""
