"""One line of a benchmark's answer: ours, theirs, their ratio and its spread."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

LLAMA_CPP = "llama.cpp"


@dataclass(frozen=True)
class Row:
    """What was measured, round by round.

    Attributes
    ----------
    name
        The benchmark's; its further rows say what they are after a comma.
    unit
        Of the figures, such as ``ms``.
    conditions
        How many of what, such as ``{"adapters": 3}``.
    figures
        Ours, and theirs where they ran: a figure a round, the i-th of both side by side.
    against
        Who they are.
    their_settings
        What their figures hold for.
    """

    name: str
    unit: str
    conditions: Mapping[str, int]
    figures: Sequence[Sequence[float]]
    against: str = LLAMA_CPP
    their_settings: Mapping[str, bool] | None = None

    @property
    def ours(self) -> float:
        """The median of ours."""
        return float(np.median(self.figures[0]))

    @property
    def theirs(self) -> float | None:
        """The median of theirs; None where ours ran alone."""
        return float(np.median(self.figures[1])) if len(self.figures) > 1 else None

    @property
    def ratio(self) -> float | None:
        """Ours / theirs."""
        return None if self.theirs is None else self.ours / self.theirs

    @property
    def spread(self) -> tuple[float, float]:
        """The 5th and the 95th percentile of the rounds' ratios, or of our figures where they are alone."""
        values = np.array(self.figures[0])
        if len(self.figures) > 1:
            values /= np.array(self.figures[1])
        low, high = np.percentile(values, [5, 95])
        return float(low), float(high)

    def json(self) -> str:
        """Return it as one JSON object on one line."""
        fields: dict[str, Any] = {
            "name": self.name,
            "ours": self.ours,
            "theirs": self.theirs,
            "ratio": self.ratio,
            "unit": self.unit,
            "spread": self.spread,
            "against": self.against if self.theirs is not None else None,
            **self.conditions,
            "rounds": len(self.figures[0]),
            "least": [min(figures) for figures in self.figures],  # what a busy machine disturbs the least
            "most": [max(figures) for figures in self.figures],
            "their_settings": self.their_settings,
        }
        return json.dumps(fields)

    def __str__(self) -> str:
        """Return it as one line to read."""
        what = ", ".join([self.name, *(f"{count} {noun}" for noun, count in self.conditions.items())])
        low, high = self.spread
        text = f"{what:<44}{self.ours:9.2f} {self.unit}"
        if self.theirs is None:
            return f"{text}   ({low:.2f} to {high:.2f})"
        return f"{text}   {self.against} {self.theirs:.2f}   ratio {self.ratio:.3f} ({low:.3f} to {high:.3f})"
