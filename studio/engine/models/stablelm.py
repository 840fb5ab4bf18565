"""The architecture `stablelm`: LayerNorm and partly rotated heads; the 12B norms heads and runs in parallel.

Bellagente et al. 2024, https://arxiv.org/abs/2402.17834, section 3.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.models.layer_normed import LayerNormed
from studio.engine.models.llama import LlamaLayer
from studio.engine.operators import head_layer_norm
from studio.engine.token_plan import NormPlan

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.hyperparameters import ExpectedTensors, Hyperparameters, Sizes
    from studio.engine.models.rope import View
    from studio.engine.token_plan import BlockPlan


class StablelmLayer(LlamaLayer):
    """The tensor names of one layer.

    Parameters
    ----------
    tensors
        The names of the base's tensors, which tell the variants apart.

    Attributes
    ----------
    is_parallel
        Whether attention and feed-forward take the same normalised input.
    head_norms
        The weights of the norms of queries and keys, one row for each head; or none.
    """

    def __init__(self, index: int, tensors: Container[str]) -> None:
        super().__init__(index)
        self.is_parallel = self.feed_forward_norm not in tensors
        names = (f"blk.{index}.attn_q_norm.weight", f"blk.{index}.attn_k_norm.weight")
        self.head_norms = names if names[0] in tensors else ()

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms over the whole width."""
        return (self.attention_norm,) if self.is_parallel else super().norms

    def expect(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the layer has, of which shapes."""
        super().expect(tensors, size)
        if self.head_norms:
            for name, heads in zip(self.head_norms, (size.heads, size.groups), strict=True):
                tensors.require(name, heads, size.head)


class Stablelm(LayerNormed):
    """A stablelm."""

    layers: Sequence[StablelmLayer]

    def make_layers(self, read: Hyperparameters) -> Sequence[StablelmLayer]:
        """Name the tensors of every layer."""
        return [StablelmLayer(index, read.base.tensors) for index in range(read.blocks())]

    @property
    def vectors(self) -> tuple[str, ...]:
        """The weights and the biases of the norms, and the weights of the heads' norms."""
        return (*super().vectors, *(name for layer in self.layers for name in layer.head_norms))

    def block_plan(self, index: int) -> BlockPlan:
        """Tell one block as data, with the norms that it has."""
        layer = self.layers[index]
        plan = super().block_plan(index)
        if layer.is_parallel:
            plan = replace(plan, feed_forward_norm=None, is_parallel=True)
        if not layer.head_norms:
            return plan
        query_norm, key_norm = (NormPlan(name, centred=True) for name in layer.head_norms)
        return replace(plan, query_norm=query_norm, key_norm=key_norm)

    def block(self, run: ForwardPass, index: int, x: Array, view: View) -> Array:
        """Run one layer: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        if not layer.is_parallel:
            return super().block(run, index, x, view)
        normed = self.norm(run, x, layer.attention_norm)
        return x + self.attend(run, index, normed, view) + self.feed_forward(run, index, normed)

    def queries_keys_values(self, run: ForwardPass, index: int, normed: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values, and norm the heads: ``[heads, head_size, N, T]``."""
        q, k, v = super().queries_keys_values(run, index, normed)
        if self.layers[index].head_norms:
            q, k = (
                head_layer_norm(run.xp, heads, run.vector(name), self.epsilon)
                for heads, name in zip((q, k), self.layers[index].head_norms, strict=True)
            )
        return q, k, v
