"""How a model decodes one token, told as data: a model that offers a plan is decoded by compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from studio.engine.backend import HostArray
    from studio.engine.model import LinearGroup


@dataclass(frozen=True)
class BlockPlan:
    """The tensor names of one block: x += output(attention(norm(x))), x += down(silu(gate) * up)(norm(x)).

    Attributes
    ----------
    query_key_value
        Three names, in this order.
    gate_up
        Two names, in this order.
    """

    attention_norm: str
    query_key_value: LinearGroup
    attention_output: LinearGroup
    feed_forward_norm: str
    gate_up: LinearGroup
    down: LinearGroup


@dataclass(frozen=True)
class TokenPlan:
    """A decoder of equal blocks with root-mean-square norms, rotated keys and gated feed-forward layers.

    Attributes
    ----------
    frequencies
        float64 ``[angles]``: by how many radians a position turns each pair.
    pairs_apart
        How many rows lie between the two of a pair: 1 for neighbours, half the angles' rows for halves.
    """

    blocks: tuple[BlockPlan, ...]
    output_norm: str
    heads: int
    groups: int
    head_size: int
    epsilon: float
    frequencies: HostArray
    pairs_apart: int = 1


@runtime_checkable
class PlannedModel(Protocol):
    """A model that may have a plan."""

    @property
    def token_plan(self) -> TokenPlan | None:
        """How it decodes one token; None where that takes more than a plan can say."""
