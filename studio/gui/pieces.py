"""Token pieces as text to read: white space made visible, probabilities in equal columns."""

from __future__ import annotations

_VISIBLE = {" ": "·", "\n": "⏎", "\t": "⇥", "\r": "␍", "\u00a0": "⍽"}


def visible_piece(piece: str) -> str:
    """Return a token's text with its white space and control characters as signs."""
    if piece == "":
        return "∅"
    return "".join(
        _VISIBLE.get(character) or (character if character.isprintable() else f"U+{ord(character):04X}")
        for character in piece
    )


def short_probability(probability: float) -> str:
    """Return a probability in three figures' width: ``.31``, ``<.01`` or ``1.0``."""
    if probability != probability:
        return "nan"
    if probability >= 0.995:
        return "1.0"
    if 0 < probability < 0.005:
        return "<.01"
    return f"{probability:.2f}"[1:]
