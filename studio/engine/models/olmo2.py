"""The architecture `olmo2`: norms after attention and feed-forward, and over all queries and all keys.

OLMo Team 2024, https://arxiv.org/abs/2501.00656, section 3.2. With sliding windows it is an olmo3.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.models.hyperparameters import Hyperparameters
from studio.engine.models.llama import Llama, LlamaLayer
from studio.engine.models.rope import Rope, plain_frequencies
from studio.engine.operators import rms_norm, rotate_halves

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.hyperparameters import ExpectedTensors, Sizes
    from studio.engine.models.rope import View
    from studio.engine.token_plan import BlockPlan


class Olmo2Layer(LlamaLayer):
    """The tensor names of one layer: its norms come after what they are named for."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        block = f"blk.{index}"
        self.query_norm = f"{block}.attn_q_norm.weight"
        self.key_norm = f"{block}.attn_k_norm.weight"
        self.attention_norm = f"{block}.post_attention_norm.weight"
        self.feed_forward_norm = f"{block}.post_ffw_norm.weight"

    @property
    def vectors(self) -> tuple[str, ...]:
        """Every tensor that is used as a vector."""
        return (*self.norms, self.query_norm, self.key_norm)

    def expect(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the layer has, of which shapes."""
        super().expect(tensors, size)
        tensors.require(self.query_norm, size.queries)
        tensors.require(self.key_norm, size.keys)


class Olmo2(Llama):
    """An olmo2."""

    rotate = staticmethod(rotate_halves)
    layer_type = Olmo2Layer
    layers: Sequence[Olmo2Layer]

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        read = Hyperparameters(base)
        self.windows = read.windows(len(self.layers), period=4)
        self.window_rope = Rope(plain_frequencies(read.number("rope.freq_base", 10000.0), self.heads.rotated))

    def rope_of(self, window: int | None) -> Rope:
        """Return the turning of the layers with this window: only that of the others is scaled."""
        return self.rope if window is None else self.window_rope

    def block_plan(self, index: int) -> BlockPlan:
        """Tell one block as data: its norms stand after its parts, and over all queries and all keys."""
        layer = self.layers[index]
        return replace(
            super().block_plan(index),
            attention_norm=None,
            feed_forward_norm=None,
            query_norm=self.norm_plan(layer.query_norm),
            key_norm=self.norm_plan(layer.key_norm),
            attention_post_norm=self.norm_plan(layer.attention_norm),
            feed_forward_post_norm=self.norm_plan(layer.feed_forward_norm),
        )

    def block(self, run: ForwardPass, index: int, x: Array, view: View) -> Array:
        """Run one layer: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        x = x + self.norm(run, self.attend(run, index, x, view), layer.attention_norm)
        return x + self.norm(run, self.feed_forward(run, index, x), layer.feed_forward_norm)

    def queries_keys_values(self, run: ForwardPass, index: int, normed: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values, and norm all queries and all keys of a position together."""
        layer = self.layers[index]
        q, k, v = run.project(layer.query_key_value, normed)
        q = rms_norm(run.xp, q, run.vector(layer.query_norm), self.epsilon)
        k = rms_norm(run.xp, k, run.vector(layer.key_norm), self.epsilon)
        per_head = (-1, self.heads.size, run.blends, run.length)
        return q.reshape(per_head), k.reshape(per_head), v.reshape(per_head)
