"""How a model decodes one token, told as data: a model that offers a plan is decoded by compiled kernels."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum, auto
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass, LinearGroup
    from studio.engine.models.rope import Rope


class Activation(Enum):
    """What a feed-forward puts its values through."""

    SILU = auto()
    GELU = auto()


@dataclass(frozen=True)
class NormPlan:
    """A norm: weight * x / root mean square of x + bias.

    Attributes
    ----------
    weight, bias
        The vectors' names.
    centred
        Whether the mean is taken off x first: LayerNorm.
    """

    weight: str
    bias: str | None = None
    centred: bool = False


@dataclass(frozen=True)
class BlockPlan:
    """One block: x += attention(x), then x += feed-forward(x), each with the norms it has.

    Attributes
    ----------
    attention_norm, feed_forward_norm
        Before the part; None where it takes x as it stands.
    query_key_value
        Three names, or one of a weight whose rows are those of all three.
    query_norm, key_norm
        Of heads, before they turn. Its weight says how, by its shape: ``[head_size]`` is shared by all heads,
        ``[heads, head_size]`` is not, ``[heads * head_size]`` normalises all heads together.
    rope
        How queries and keys turn.
    window
        How many positions a query sees; None is all.
    gate_up
        Two names, or one of a weight with the rows of both; or just the name of up where nothing is gated.
    attention_post_norm, feed_forward_post_norm
        After the part, before it is added to x. All parts of a plan have one, or none.
    is_parallel
        Whether the feed-forward takes the same input as attention, not what attention has added to.
    """

    attention_norm: NormPlan | None
    query_key_value: LinearGroup
    attention_output: LinearGroup
    feed_forward_norm: NormPlan | None
    gate_up: LinearGroup
    down: LinearGroup
    rope: Rope
    window: int | None = None
    query_norm: NormPlan | None = None
    key_norm: NormPlan | None = None
    attention_post_norm: NormPlan | None = None
    feed_forward_post_norm: NormPlan | None = None
    is_parallel: bool = False


@dataclass(frozen=True)
class TokenPlan:
    """A decoder of blocks, from the embedded token to the logits.

    Attributes
    ----------
    epsilon
        Of all norms.
    attention_scale, attention_cap
        What scores are scaled by, and the soft cap that they then go through, if any.
    pairs_apart
        How many rows lie between the two that turn together: 1 for neighbours, half the angles' rows for
        halves.
    gated
        Whether the feed-forward is activation(gate) * up, or activation(up).
    residual_scale
        What the parts are scaled by before they are added to x.
    logit_scale, logit_cap
        What logits are scaled by, and the soft cap that they then go through, if any.
    long_rope, original_context
        What turns every block of a sequence that may become longer than the original context, if anything.
    """

    blocks: tuple[BlockPlan, ...]
    output_norm: NormPlan
    heads: int
    groups: int
    head_size: int
    epsilon: float
    attention_scale: float
    attention_cap: float | None = None
    pairs_apart: int = 1
    activation: Activation = Activation.SILU
    gated: bool = True
    residual_scale: float = 1.0
    logit_scale: float = 1.0
    logit_cap: float | None = None
    long_rope: Rope | None = None
    original_context: int = 0

    @property
    def has_post_norms(self) -> bool:
        """Whether norms stand after the parts."""
        return self.blocks[0].attention_post_norm is not None


@runtime_checkable
class PlannedModel(Protocol):
    """A model that may have a plan."""

    @property
    def token_plan(self) -> TokenPlan | None:
        """How it decodes one token; None where that takes more than a plan can say."""

    def embed(self, run: ForwardPass) -> Array:
        """Look the new tokens up: ``[width, N * T]``, where the plan begins."""
