"""The architecture `phi3`: queries, keys and values in one weight, gate and up in another, and LongRoPE.

Abdin et al. 2024, https://arxiv.org/abs/2404.14219, section 2; Ding et al. 2024,
https://arxiv.org/abs/2402.13753.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.models.hyperparameters import Hyperparameters, Size
from studio.engine.models.llama import Llama, LlamaLayer
from studio.engine.models.rope import Rope, plain_frequencies, view
from studio.engine.operators import rotate_halves, swiglu

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array
    from studio.engine.model import ForwardPass
    from studio.engine.models.hyperparameters import ExpectedTensors, Sizes
    from studio.engine.models.rope import View
    from studio.engine.token_plan import TokenPlan

LONG_FACTORS = "rope_factors_long.weight"
SHORT_FACTORS = "rope_factors_short.weight"


class Phi3Layer(LlamaLayer):
    """The tensor names of one layer."""

    def __init__(self, index: int) -> None:
        super().__init__(index)
        self.query_key_value = (f"blk.{index}.attn_qkv.weight",)
        self.gate_up = (f"blk.{index}.ffn_up.weight",)

    def expect(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the layer has, of which shapes."""
        rows = Size(size.queries.value + 2 * size.keys.value, size.keys.key)
        for name in self.norms:
            tensors.require(name, size.width)
        tensors.require_linear(self.query_key_value, (rows,), size.width)
        tensors.require_linear(self.attention_output, (size.width,), size.queries)
        tensors.require_linear(self.gate_up, (Size(2 * size.inner.value, size.inner.key),), size.width)
        tensors.require_linear(self.down, (size.width,), size.inner)


class Phi3(Llama):
    """A phi3.

    A sequence that may become longer than the original context is turned by the long factors from its first
    position on, any other by the short ones.
    """

    rotate = staticmethod(rotate_halves)
    layer_type = Phi3Layer

    def __init__(self, base: BaseModel) -> None:
        super().__init__(base)
        read = Hyperparameters(base)
        self.windows = [read.window()] * len(self.layers)
        self.original_context, self.long_rope = self.context_length, self.rope
        if LONG_FACTORS in base.tensors:
            self.original_context = read.count("rope.scaling.original_context_length")
            self.long_rope = _factored_rope(read, self.heads.rotated, LONG_FACTORS)

    def rope_from(self, read: Hyperparameters) -> Rope:
        """Read the turning of queries and keys within the original context."""
        if SHORT_FACTORS in read.base.tensors:
            return _factored_rope(read, self.heads.rotated, SHORT_FACTORS)
        return super().rope_from(read)

    def expected_tensors(self, size: Sizes) -> ExpectedTensors:
        """List every tensor that the base must or may have."""
        tensors = super().expected_tensors(size)
        tensors.allow(LONG_FACTORS, size.angles)
        tensors.allow(SHORT_FACTORS, size.angles)
        return tensors

    def plan(self) -> TokenPlan:
        """Tell as data how it decodes one token."""
        return replace(super().plan(), long_rope=self.long_rope, original_context=self.original_context)

    def is_long(self, horizon: int) -> bool:
        """Say whether a sequence may become longer than the original context."""
        return horizon > self.original_context

    def views(self, run: ForwardPass) -> Sequence[View]:
        """Say how each layer looks at the positions."""
        rope = self.long_rope if self.is_long(run.horizon) else self.rope
        return [view(run, rope, self.windows[0])] * len(self.layers)

    def queries_keys_values(self, run: ForwardPass, index: int, normed: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values, before they are turned: ``[heads, head_size, N, T]``."""
        (fused,) = run.project(self.layers[index].query_key_value, normed)
        heads = fused.reshape(-1, self.heads.size, run.blends, run.length)
        q, k = self.heads.count, self.heads.count + self.heads.groups
        return heads[:q], heads[q:k], heads[k:]

    def feed_forward(self, run: ForwardPass, index: int, normed: Array) -> Array:
        """Feed forward in one layer: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        (fused,) = run.project(layer.gate_up, normed)  # [2 * inner, N * T]
        half = fused.shape[0] // 2
        (fed,) = run.project(layer.down, swiglu(run.xp, fused[:half], fused[half:]))
        return fed


def _factored_rope(read: Hyperparameters, rotated: int, factors: str) -> Rope:
    """Slow each pair down by its own factor: LongRoPE."""
    frequencies = plain_frequencies(read.number("rope.freq_base", 10000.0), rotated)
    return Rope(frequencies / read.base.dense(factors), read.number("rope.scaling.attn_factor", 1.0))
