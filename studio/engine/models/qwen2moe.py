"""The architecture `qwen2moe`: a qwen2 with experts, and one that every position goes through.

Qwen Team 2024, https://arxiv.org/abs/2407.10671, section 2.2.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.experts import ExpertLayer, Mixture, read_experts
from studio.engine.models.hyperparameters import Size
from studio.engine.operators import rotate_halves, sigmoid, swiglu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass, LinearGroup
    from studio.engine.models.experts import Experts
    from studio.engine.models.hyperparameters import ExpectedTensors, Hyperparameters, Sizes


class Qwen2MoeLayer(ExpertLayer):
    """The tensor names of one layer."""

    def __init__(self, index: int, experts: Experts, shared_inner: Size) -> None:
        super().__init__(index, experts)
        block = f"blk.{index}"
        self.shared_inner = shared_inner
        self.shared_gate: LinearGroup = (f"{block}.ffn_gate_inp_shexp.weight",)
        self.shared_gate_up: LinearGroup = (f"{block}.ffn_gate_shexp.weight", f"{block}.ffn_up_shexp.weight")
        self.shared_down: LinearGroup = (f"{block}.ffn_down_shexp.weight",)

    @property
    def linear_groups(self) -> tuple[LinearGroup, ...]:
        """Every group, in the order of use."""
        return (*super().linear_groups, self.shared_gate, self.shared_gate_up, self.shared_down)

    def expect_feed_forward(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the feed-forward has, of which shapes."""
        super().expect_feed_forward(tensors, size)
        tensors.require(self.shared_gate[0], Size(1, self.shared_gate[0]), size.width)
        for name in self.shared_gate_up:
            tensors.require(name, self.shared_inner, size.width)
        tensors.require(self.shared_down[0], size.width, self.shared_inner)


class Qwen2Moe(Mixture):
    """A qwen2moe; the biases are part of its linear weights."""

    rotate = staticmethod(rotate_halves)
    shares_sum_to_one = False
    layers: Sequence[Qwen2MoeLayer]

    def make_layers(self, read: Hyperparameters) -> Sequence[Qwen2MoeLayer]:
        """Name the tensors of every layer."""
        experts = read_experts(read)
        key = "expert_shared_feed_forward_length"
        if read.value(key) is None:
            key = "feed_forward_length"
        inner = Size(read.count(key), read.key(key))
        return [Qwen2MoeLayer(index, experts, inner) for index in range(read.blocks())]

    def feed_forward(self, run: ForwardPass, index: int, normed: Array) -> Array:
        """Add the shared expert, as much of it as its gate lets through: ``[width, N * T]``."""
        layer = self.layers[index]
        (opening,) = run.project(layer.shared_gate, normed)  # [1, N * T]
        gate, up = run.project(layer.shared_gate_up, normed)
        (shared,) = run.project(layer.shared_down, swiglu(run.xp, gate, up))
        return super().feed_forward(run, index, normed) + shared * sigmoid(run.xp, opening)
