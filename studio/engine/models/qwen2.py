"""The architecture `qwen2`: a llama with biases in attention, its rows in Hugging Face's order.

Qwen Team 2024, https://arxiv.org/abs/2407.10671, section 2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.llama import Llama
from studio.engine.operators import rotate_halves

if TYPE_CHECKING:
    from studio.engine.token_plan import TokenPlan


class Qwen2(Llama):
    """A qwen2; the biases are part of its linear weights."""

    rotate = staticmethod(rotate_halves)

    @property
    def token_plan(self) -> TokenPlan | None:
        """How it decodes one token, for a model of exactly this form."""
        return self.plain_plan(pairs_apart=len(self.rope.frequencies)) if type(self) is Qwen2 else None
