"""The architecture `gemma3`: a gemma2 with normalised queries and keys and a RoPE of their own in windows.

Gemma Team 2025, https://arxiv.org/abs/2503.19786, section 2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.models.gemma2 import Gemma2, Gemma2Layer
from studio.engine.models.hyperparameters import Hyperparameters
from studio.engine.models.rope import Rope, plain_frequencies
from studio.engine.operators import head_norm

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.hyperparameters import ExpectedTensors, Sizes


class Gemma3Layer(Gemma2Layer):
    """The tensor names of one layer."""

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


class Gemma3(Gemma2):
    """A gemma3."""

    layer_type = Gemma3Layer
    layers: Sequence[Gemma3Layer]
    window_period = 6
    default_window = None
    wide_headed_blocks = 62

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        local_base = Hyperparameters(base).number("rope.freq_base_swa", 10000.0)
        self.local_rope = Rope(plain_frequencies(local_base, self.heads.rotated))

    def rope_of(self, window: int | None) -> Rope:
        """Return the turning of the layers with this window; only that of the others may be scaled."""
        return self.rope if window is None else self.local_rope

    def queries_keys_values(self, run: ForwardPass, index: int, normed: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values, the first two normalised: ``[heads, head_size, N, T]``."""
        layer = self.layers[index]
        q, k, v = super().queries_keys_values(run, index, normed)
        q = head_norm(run.xp, q, run.vector(layer.query_norm), self.epsilon)
        k = head_norm(run.xp, k, run.vector(layer.key_norm), self.epsilon)
        return q, k, v
