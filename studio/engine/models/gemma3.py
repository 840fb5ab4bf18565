"""The architecture `gemma3`: a gemma2 with normalised queries and keys and a RoPE of its own in windows.

Gemma Team 2025, https://arxiv.org/abs/2503.19786, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.gemma2 import Gemma2, Gemma2Layer
from studio.engine.models.hyperparameters import Hyperparameters
from studio.engine.models.normed_heads import NormedHeads, NormedHeadsLayer
from studio.engine.models.rope import Rope, plain_frequencies

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel


class Gemma3Layer(NormedHeadsLayer, Gemma2Layer):
    """The tensor names of one layer: those of a gemma2, and the norms of its heads."""


class Gemma3(NormedHeads, Gemma2):
    """A gemma3."""

    layer_type = Gemma3Layer
    layers: Sequence[Gemma3Layer]
    window_period = 6
    default_window = None
    wide_headed_blocks = 62

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        local_base = Hyperparameters(base).number("rope.freq_base_swa", 10000.0)
        self.window_rope = Rope(plain_frequencies(local_base, self.heads.rotated))

    def rope_of(self, window: int | None) -> Rope:
        """Return the turning of the layers with this window: only that of the others may be scaled."""
        return self.rope if window is None else self.window_rope
