"""Mixtures of experts: a router sends each position through a few of many feed-forwards.

Shazeer et al. 2017, https://arxiv.org/abs/1701.06538; as Jiang et al. 2024, https://arxiv.org/abs/2401.04088,
section 2.1, and Yang et al. 2024, https://arxiv.org/abs/2407.10671, section 2.2.2, have it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.models.hyperparameters import Size
from studio.engine.models.llama import Llama, LlamaLayer
from studio.engine.operators import expert_shares, sum_of_columns, swiglu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.engine.backend import Array, HostArray
    from studio.engine.model import ForwardPass, LinearGroup
    from studio.engine.models.hyperparameters import ExpectedTensors, Hyperparameters, Sizes


@dataclass(frozen=True)
class Experts:
    """How many experts there are, how many of them a position goes through, and how wide they are inside."""

    count: Size
    used: int
    inner: Size


def read_experts(read: Hyperparameters) -> Experts:
    """Read the sizes of the experts."""
    count, used = read.count("expert_count"), read.count("expert_used_count")
    if used > count:
        raise read.fault("expert_used_count", f"{used} experts are to be used of {count}")
    inner_key = "expert_feed_forward_length"
    if read.value(inner_key) is None:
        inner_key = "feed_forward_length"
    return Experts(
        Size(count, read.key("expert_count")), used, Size(read.count(inner_key), read.key(inner_key))
    )


class ExpertLayer(LlamaLayer):
    """The tensor names of a layer with experts: one weight ``(E, out, in)`` holds those of all."""

    def __init__(self, index: int, experts: Experts) -> None:
        super().__init__(index)
        block = f"blk.{index}"
        self.experts = experts
        self.router: LinearGroup = (f"{block}.ffn_gate_inp.weight",)
        self.gate_up: LinearGroup = (f"{block}.ffn_gate_exps.weight", f"{block}.ffn_up_exps.weight")
        self.down: LinearGroup = (f"{block}.ffn_down_exps.weight",)

    @property
    def linear_groups(self) -> tuple[LinearGroup, ...]:
        """Every group, in the order of use."""
        return self.query_key_value, self.attention_output, self.router, self.gate_up, self.down

    def expect_feed_forward(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the feed-forward has, of which shapes."""
        count, inner = self.experts.count, self.experts.inner
        tensors.require(self.router[0], count, size.width)
        for name in self.gate_up:
            tensors.require(name, count, inner, size.width)
        tensors.require(self.down[0], count, size.width, inner)


class Mixture(Llama):
    """A llama whose feed-forwards are mixtures of experts."""

    has_experts = True
    shares_sum_to_one = True
    """Whether the shares of the experts that are used are scaled to a sum of 1."""

    layers: Sequence[ExpertLayer]

    def make_layers(self, read: Hyperparameters) -> Sequence[ExpertLayer]:
        """Name the tensors of every layer."""
        experts = read_experts(read)
        return [ExpertLayer(index, experts) for index in range(read.blocks())]

    @property
    def experts_used(self) -> int:  # type: ignore[override]
        """How many experts a position goes through."""
        return self.layers[0].experts.used

    @property
    def token_plan(self) -> None:
        """None: a plan has no word for experts."""

    def feed_forward(self, run: ForwardPass, index: int, normed: Array) -> Array:
        """Feed each position through its experts, and add them up by their shares: ``[width, N * T]``."""
        layer = self.layers[index]
        (scores,) = run.project(layer.router, normed)  # [E, N * T]
        chosen = choose(run.to_host(scores), layer.experts.used)
        shares = expert_shares(run.xp, scores, run.to_device(chosen), sum_to_one=self.shares_sum_to_one)
        parts, places = [], []
        for expert in np.flatnonzero(chosen.any(axis=1)).tolist():
            columns = np.flatnonzero(chosen[expert])  # [C]
            place = run.to_device(columns)
            gate, up = run.project_expert(layer.gate_up, expert, normed[:, place], columns)
            (fed,) = run.project_expert(layer.down, expert, swiglu(run.xp, gate, up), columns)
            parts.append(fed * shares[expert : expert + 1, place])  # [width, C] * [1, C]
            places.append(place)
        return sum_of_columns(run.xp, *parts, places=places, count=chosen.shape[1])


def choose(scores: HostArray, used: int) -> HostArray:
    """Say of scores ``[E, C]`` which are the `used` highest of their column: bool, in the same shape."""
    highest = np.argsort(-scores, axis=0, kind="stable")[:used]  # [used, C]
    chosen = np.zeros(scores.shape, dtype=bool)
    np.put_along_axis(chosen, highest, True, axis=0)
    return chosen
