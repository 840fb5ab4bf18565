"""The architecture `gpt2`: learned positions in place of rotary ones, and one weight for Q, K and V.

Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.engine.models.hyperparameters import Hyperparameters, Size
from studio.engine.models.rope import Rope
from studio.engine.models.starcoder2 import Starcoder2, Starcoder2Layer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass, LinearGroup
    from studio.engine.models.hyperparameters import ExpectedTensors, Sizes

POSITIONS = "position_embd.weight"


class Gpt2Layer(Starcoder2Layer):
    """The tensor names of one layer."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.query_key_value: LinearGroup = (f"blk.{index}.attn_qkv.weight",)

    def expect(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the layer has, of which shapes."""
        for name in self.norms:
            tensors.require(name, size.width)
        fused = Size(size.queries.value + 2 * size.keys.value, size.queries.key)
        tensors.require_linear(self.query_key_value, (fused,), size.width)
        tensors.require_linear(self.attention_output, (size.width,), size.queries)
        self.expect_feed_forward(tensors, size)


class Gpt2(Starcoder2):
    """A gpt2."""

    layer_type = Gpt2Layer
    layers: Sequence[Gpt2Layer]
    default_window = None

    def __init__(self, base: BaseModel) -> None:
        read = Hyperparameters(base)
        self.positions = Size(read.count("context_length"), read.key("context_length"))
        super().__init__(base)

    def rope_from(self, read: Hyperparameters) -> Rope:
        """Turn nothing: the positions are in the embedding."""
        return Rope(np.zeros(0))

    def expected_tensors(self, size: Sizes) -> ExpectedTensors:
        """List every tensor that the base must or may have."""
        tensors = super().expected_tensors(size)
        tensors.require(POSITIONS, self.positions, size.width)
        return tensors

    @property
    def vectors(self) -> tuple[str, ...]:
        """The weights and the biases of the norms, and the embedding of the positions."""
        return (*super().vectors, POSITIONS)

    def embed(self, run: ForwardPass) -> Array:
        """Look the new tokens and their positions up: ``[width, N * T]``."""
        positions = run.vector(POSITIONS)[run.start : run.start + run.length]  # [T, width]
        return run.embed() + run.xp.tile(positions.T, (1, run.blends))

    def queries_keys_values(self, run: ForwardPass, index: int, normed: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values: ``[heads, head_size, N, T]``."""
        (fused,) = run.project(self.layers[index].query_key_value, normed)
        by_head = fused.reshape(-1, self.heads.size, run.blends, run.length)
        keys = self.heads.count
        values = keys + self.heads.groups
        return by_head[:keys], by_head[keys:values], by_head[values:]
