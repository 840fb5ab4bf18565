"""The architecture `qwen2`: a llama with biases in attention, its rows in Hugging Face's order.

Qwen Team 2024, https://arxiv.org/abs/2407.10671, section 2.2.
"""

from __future__ import annotations

from studio.engine.models.llama import Llama
from studio.engine.operators import rotate_halves


class Qwen2(Llama):
    """A qwen2; the biases are part of its linear weights."""

    rotate = staticmethod(rotate_halves)
