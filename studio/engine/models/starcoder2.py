"""The architecture `starcoder2`: LayerNorm, biases everywhere, and a feed-forward with GELU and no gate.

Lozhkov et al. 2024, https://arxiv.org/abs/2402.19173, section 6.2.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.models.hyperparameters import Hyperparameters
from studio.engine.models.layer_normed import LayerNormed
from studio.engine.models.llama import LlamaLayer
from studio.engine.operators import gelu
from studio.engine.token_plan import Activation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass, LinearGroup
    from studio.engine.models.hyperparameters import ExpectedTensors, Sizes
    from studio.engine.token_plan import BlockPlan, TokenPlan


class Starcoder2Layer(LlamaLayer):
    """The tensor names of one layer."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.up: LinearGroup = (f"blk.{index}.ffn_up.weight",)

    @property
    def linear_groups(self) -> tuple[LinearGroup, ...]:
        """Every group, in the order of use."""
        return self.query_key_value, self.attention_output, self.up, self.down

    def expect_feed_forward(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the feed-forward has, of which shapes."""
        tensors.require_linear(self.up, (size.inner,), size.width)
        tensors.require_linear(self.down, (size.width,), size.inner)


class Starcoder2(LayerNormed):
    """A starcoder2."""

    layer_type = Starcoder2Layer
    layers: Sequence[Starcoder2Layer]
    default_window: int | None = 4096
    """The window of every layer: files leave it out, and all models that were released have this one."""

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        self.windows = [Hyperparameters(base).window(self.default_window)] * len(self.layers)

    def plan(self) -> TokenPlan:
        """Tell as data how it decodes one token."""
        return replace(super().plan(), activation=Activation.GELU, gated=False)

    def block_plan(self, index: int) -> BlockPlan:
        """Tell one block as data: nothing is gated."""
        return replace(super().block_plan(index), gate_up=self.layers[index].up)

    def feed_forward(self, run: ForwardPass, index: int, normed: Array) -> Array:
        """Feed forward in one layer: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        (up,) = run.project(layer.up, normed)  # [inner, N * T]
        (fed,) = run.project(layer.down, gelu(run.xp, up))
        return fed
