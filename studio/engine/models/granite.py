"""The architecture `granite`: a llama that scales its embedding, attention, residuals and logits.

IBM Granite Team 2024, Granite 3.0 Language Models, section 3, after the maximal update parametrisation of
Yang et al. 2022, https://arxiv.org/abs/2203.03466.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.models.hyperparameters import Hyperparameters
from studio.engine.models.llama import Llama

if TYPE_CHECKING:
    from studio.contracts import BaseModel
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.rope import View
    from studio.engine.token_plan import TokenPlan


class Granite(Llama):
    """A granite."""

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        read = Hyperparameters(base)
        if read.value("rope.scaling.finetuned") is False:
            raise read.unsupported("rope.scaling.finetuned", "a granite without rotary positions")
        self.attention_scale = read.number("attention.scale", self.attention_scale)
        self.embedding_scale = read.number("embedding_scale", 1.0)
        self.residual_scale = read.number("residual_scale", 1.0)
        self.logit_divisor = read.number("logit_scale")

    def plan(self) -> TokenPlan:
        """Tell as data how it decodes one token."""
        return replace(super().plan(), residual_scale=self.residual_scale, logit_scale=1 / self.logit_divisor)

    def embed(self, run: ForwardPass) -> Array:
        """Look the new tokens up and scale them: ``[width, N * T]``."""
        return super().embed(run) * self.embedding_scale

    def attend(self, run: ForwardPass, index: int, normed: Array, view: View) -> Array:
        """Attend in one layer and scale the result: ``[width, N * T]`` to the same."""
        return super().attend(run, index, normed, view) * self.residual_scale

    def feed_forward(self, run: ForwardPass, index: int, normed: Array) -> Array:
        """Feed forward in one layer and scale the result: ``[width, N * T]`` to the same."""
        return super().feed_forward(run, index, normed) * self.residual_scale

    def logits(self, run: ForwardPass, hidden: Array) -> Array:
        """Turn columns of `hidden` into logits: ``[width, C] -> [V, C]``."""
        return super().logits(run, hidden) / self.logit_divisor
