"""Queries and keys that are normalised head by head before they are turned, as qwen3 and gemma3 have them.

Henry et al. 2020, https://arxiv.org/abs/2010.04245, with a root-mean-square norm and weights.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.models.llama import Llama, LlamaLayer
from studio.engine.operators import head_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.hyperparameters import ExpectedTensors, Sizes
    from studio.engine.token_plan import BlockPlan


class NormedHeadsLayer(LlamaLayer):
    """The tensor names of a layer with norms of its heads."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.query_norm = f"blk.{index}.attn_q_norm.weight"
        self.key_norm = f"blk.{index}.attn_k_norm.weight"

    @property
    def vectors(self) -> tuple[str, ...]:
        """Every tensor that is used as a vector."""
        return (*super().vectors, self.query_norm, self.key_norm)

    def expect(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the layer has, of which shapes."""
        super().expect(tensors, size)
        tensors.require(self.query_norm, size.head)
        tensors.require(self.key_norm, size.head)


class NormedHeads(Llama):
    """A llama with norms of its heads."""

    layers: Sequence[NormedHeadsLayer]

    def block_plan(self, index: int) -> BlockPlan:
        """Tell one block as data, with the norms of its heads."""
        layer = self.layers[index]
        norms = (self.norm_plan(layer.query_norm), self.norm_plan(layer.key_norm))
        return replace(super().block_plan(index), query_norm=norms[0], key_norm=norms[1])

    def queries_keys_values(self, run: ForwardPass, index: int, normed: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values, the first two normalised: ``[heads, head_size, N, T]``."""
        layer = self.layers[index]
        q, k, v = super().queries_keys_values(run, index, normed)
        q = head_norm(run.xp, q, run.vector(layer.query_norm), self.epsilon)
        k = head_norm(run.xp, k, run.vector(layer.key_norm), self.epsilon)
        return q, k, v
