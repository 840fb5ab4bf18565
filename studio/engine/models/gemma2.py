"""The architecture `gemma2`: norms before and after each part, windows in every other layer, soft caps.

Gemma Team 2024, https://arxiv.org/abs/2408.00118, section 2. The 1 that Gemma adds to its norms' weights is
part of them in a GGUF file.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.models.hyperparameters import Hyperparameters
from studio.engine.models.llama import Llama, LlamaLayer
from studio.engine.operators import geglu, rotate_halves, soft_cap
from studio.engine.token_plan import Activation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.rope import View
    from studio.engine.token_plan import BlockPlan, TokenPlan


class Gemma2Layer(LlamaLayer):
    """The tensor names of one layer."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.attention_post_norm = f"blk.{index}.post_attention_norm.weight"
        self.feed_forward_post_norm = f"blk.{index}.post_ffw_norm.weight"

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms over the whole width."""
        return (*super().norms, self.attention_post_norm, self.feed_forward_post_norm)


class Gemma2(Llama):
    """A gemma2."""

    rotate = staticmethod(rotate_halves)
    layer_type = Gemma2Layer
    layers: Sequence[Gemma2Layer]
    window_period = 2
    """One layer in so many sees everything, the others a window; the file may say otherwise."""

    default_window: int | None = 4096
    wide_headed_blocks = 46
    """The block count of the 27B model, which scales attention by width / heads, not by the head size."""

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        read = Hyperparameters(base)
        width = read.count("embedding_length")
        self.embedding_scale = math.sqrt(width)
        if len(self.layers) == self.wide_headed_blocks:
            self.attention_scale = math.sqrt(self.heads.count / width)
        self.windows = read.windows(len(self.layers), self.window_period, self.default_window)
        self.attention_cap = read.optional_number("attn_logit_softcapping")
        self.logit_cap = read.optional_number("final_logit_softcapping")

    def plan(self) -> TokenPlan:
        """Tell as data how it decodes one token."""
        return replace(super().plan(), activation=Activation.GELU, logit_cap=self.logit_cap)

    def block_plan(self, index: int) -> BlockPlan:
        """Tell one block as data, with the norms after its parts."""
        layer = self.layers[index]
        return replace(
            super().block_plan(index),
            attention_post_norm=self.norm_plan(layer.attention_post_norm),
            feed_forward_post_norm=self.norm_plan(layer.feed_forward_post_norm),
        )

    def embed(self, run: ForwardPass) -> Array:
        """Look the new tokens up and scale them: ``[width, N * T]``."""
        return super().embed(run) * self.embedding_scale

    def attend(self, run: ForwardPass, index: int, normed: Array, view: View) -> Array:
        """Attend in one layer and normalise the result: ``[width, N * T]`` to the same."""
        attended = super().attend(run, index, normed, view)
        return self.norm(run, attended, self.layers[index].attention_post_norm)

    def feed_forward(self, run: ForwardPass, index: int, normed: Array) -> Array:
        """Feed forward in one layer and normalise the result: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        gate, up = run.project(layer.gate_up, normed)  # [inner, N * T]
        (fed,) = run.project(layer.down, geglu(run.xp, gate, up))
        return self.norm(run, fed, layer.feed_forward_post_norm)

    def logits(self, run: ForwardPass, hidden: Array) -> Array:
        """Turn columns of `hidden` into logits: ``[width, C] -> [V, C]``."""
        logits = super().logits(run, hidden)
        return logits if self.logit_cap is None else soft_cap(run.xp, logits, self.logit_cap)
