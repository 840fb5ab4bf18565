"""The architecture `llama`: Llama, Mistral, SmolLM2 and their kin; the plain form that others vary.

Touvron et al. 2023, https://arxiv.org/abs/2302.13971, section 2.2, with grouped attention.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from studio.engine.kv_cache import CacheShape
from studio.engine.model import EMBEDDING, HEAD, ForwardPass, LinearGroup
from studio.engine.models.hyperparameters import ExpectedTensors, Hyperparameters, Sizes
from studio.engine.models.rope import ROPE_FACTORS, Rope, View, read_rope, view
from studio.engine.operators import attention, rms_norm, rotate_pairs, swiglu
from studio.engine.token_plan import BlockPlan, NormPlan, TokenPlan

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.contracts import BaseModel
    from studio.engine.backend import Array

OUTPUT_NORM = "output_norm.weight"


class LlamaLayer:
    """The tensor names of one layer, grouped as they are multiplied."""

    def __init__(self, index: int) -> None:
        block = f"blk.{index}"
        self.attention_norm = f"{block}.attn_norm.weight"
        self.query_key_value: LinearGroup = (
            f"{block}.attn_q.weight",
            f"{block}.attn_k.weight",
            f"{block}.attn_v.weight",
        )
        self.attention_output: LinearGroup = (f"{block}.attn_output.weight",)
        self.feed_forward_norm = f"{block}.ffn_norm.weight"
        self.gate_up: LinearGroup = (f"{block}.ffn_gate.weight", f"{block}.ffn_up.weight")
        self.down: LinearGroup = (f"{block}.ffn_down.weight",)

    @property
    def linear_groups(self) -> tuple[LinearGroup, ...]:
        """Every group, in the order of use."""
        return self.query_key_value, self.attention_output, self.gate_up, self.down

    @property
    def norms(self) -> tuple[str, ...]:
        """The norms over the whole width."""
        return self.attention_norm, self.feed_forward_norm

    @property
    def vectors(self) -> tuple[str, ...]:
        """Every tensor that is used as a vector."""
        return self.norms

    def expect(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the layer has, of which shapes."""
        for name in self.norms:
            tensors.require(name, size.width)
        tensors.require_linear(self.query_key_value, (size.queries, size.keys, size.keys), size.width)
        tensors.require_linear(self.attention_output, (size.width,), size.queries)
        self.expect_feed_forward(tensors, size)

    def expect_feed_forward(self, tensors: ExpectedTensors, size: Sizes) -> None:
        """Say which tensors the feed-forward has, of which shapes."""
        tensors.require_linear(self.gate_up, (size.inner, size.inner), size.width)
        tensors.require_linear(self.down, (size.width,), size.inner)


class Llama:
    """A llama of the hyperparameters of a base.

    Parameters
    ----------
    base
        Its hyperparameters are read and checked against its tensors; its weights are not.

    Raises
    ------
    FormatError
        For a hyperparameter that cannot be right, or a tensor that does not fit: it names them.
    UnsupportedError
        For one that the engine has no operators for.
    """

    rotate: ClassVar[Callable[..., Array]] = staticmethod(rotate_pairs)
    """In which order the rows of queries and keys stand."""

    epsilon_key: ClassVar[str] = "attention.layer_norm_rms_epsilon"
    """Which key tells what the norms add to the mean square."""

    has_experts: ClassVar[bool] = False
    """Whether it mixes experts."""

    experts_used = 0
    """How many of them a position goes through."""

    layer_type: type[LlamaLayer] = LlamaLayer
    layers: Sequence[LlamaLayer]

    def __init__(self, base: BaseModel) -> None:
        read = Hyperparameters(base)
        self.layers = self.make_layers(read)
        if read.value("expert_count") and not self.has_experts:
            raise read.unsupported("expert_count", "a mixture of experts")
        self.heads = read.heads()
        size = read.sizes(self.heads)
        read.check_tensors(self.expected_tensors(size))
        self.vocabulary_size = size.vocabulary.value
        self.context_length = read.count("context_length")
        self.epsilon = read.number(self.epsilon_key)
        self.attention_scale = 1 / math.sqrt(self.heads.size)
        self.attention_cap: float | None = None
        self.windows: Sequence[int | None] = [None] * len(self.layers)
        self.rope = self.rope_from(read)

    def make_layers(self, read: Hyperparameters) -> Sequence[LlamaLayer]:
        """Name the tensors of every layer."""
        return [self.layer_type(index) for index in range(read.blocks())]

    def rope_from(self, read: Hyperparameters) -> Rope:
        """Read the turning of queries and keys."""
        return read_rope(read, self.heads.rotated)

    def expected_tensors(self, size: Sizes) -> ExpectedTensors:
        """List every tensor that the base must or may have."""
        tensors = ExpectedTensors()
        tensors.require(EMBEDDING, size.vocabulary, size.width)
        tensors.require(OUTPUT_NORM, size.width)
        tensors.allow(HEAD, size.vocabulary, size.width)
        tensors.allow(ROPE_FACTORS, size.angles)
        for layer in self.layers:
            layer.expect(tensors, size)
        return tensors

    @property
    def cache_shape(self) -> CacheShape:
        """What one position takes in the cache."""
        return CacheShape(len(self.layers), self.heads.groups, self.heads.size)

    @property
    def token_plan(self) -> TokenPlan | None:
        """How it decodes one token."""
        return self.plan()

    def plan(self) -> TokenPlan:
        """Tell as data how it decodes one token; what varies `block` or the like says so here, too."""
        return TokenPlan(
            blocks=tuple(self.block_plan(index) for index in range(len(self.layers))),
            output_norm=self.norm_plan(OUTPUT_NORM),
            heads=self.heads.count,
            groups=self.heads.groups,
            head_size=self.heads.size,
            epsilon=self.epsilon,
            attention_scale=self.attention_scale,
            attention_cap=self.attention_cap,
            pairs_apart=1 if self.rotate is rotate_pairs else len(self.rope.frequencies),
        )

    def block_plan(self, index: int) -> BlockPlan:
        """Tell one block as data."""
        layer, window = self.layers[index], self.windows[index]
        return BlockPlan(
            attention_norm=self.norm_plan(layer.attention_norm),
            query_key_value=layer.query_key_value,
            attention_output=layer.attention_output,
            feed_forward_norm=self.norm_plan(layer.feed_forward_norm),
            gate_up=layer.gate_up,
            down=layer.down,
            rope=self.rope_of(window),
            window=window,
        )

    def norm_plan(self, name: str) -> NormPlan:
        """Tell the norm of this name as data."""
        return NormPlan(name)

    @property
    def linear_groups(self) -> tuple[LinearGroup, ...]:
        """Every group of every layer, and the head."""
        return (*(group for layer in self.layers for group in layer.linear_groups), (HEAD,))

    @property
    def vectors(self) -> tuple[str, ...]:
        """The vectors of every layer, and the last norm."""
        return (*(name for layer in self.layers for name in layer.vectors), OUTPUT_NORM)

    def is_long(self, horizon: int) -> bool:
        """Say whether the positions of a sequence that may become so long are turned in another way."""
        return False

    def hidden(self, run: ForwardPass) -> Array:
        """Run the layers over the new positions: ``[width, N * T]``, normalised for the head."""
        x = self.embed(run) if run.resumed is None else run.resumed  # [width, N * T]
        views = self.views(run)
        for index in range(run.first_layer, len(self.layers)):
            run.enter_layer(index, x)
            x = self.block(run, index, x, views[index])
        run.enter_layer(len(self.layers), x)
        return self.norm(run, x, OUTPUT_NORM)

    def block(self, run: ForwardPass, index: int, x: Array, view: View) -> Array:
        """Run one layer: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        x = x + self.attend(run, index, self.norm(run, x, layer.attention_norm), view)
        return x + self.feed_forward(run, index, self.norm(run, x, layer.feed_forward_norm))

    def embed(self, run: ForwardPass) -> Array:
        """Look the new tokens up: ``[width, N * T]``."""
        return run.embed()

    def views(self, run: ForwardPass) -> Sequence[View]:
        """Say how each layer looks at the positions."""
        by_window = {window: view(run, self.rope_of(window), window) for window in set(self.windows)}
        return [by_window[window] for window in self.windows]

    def rope_of(self, window: int | None) -> Rope:
        """Return the turning of the layers with this window."""
        return self.rope

    def norm(self, run: ForwardPass, x: Array, name: str) -> Array:
        """Normalise columns by the norm of this name."""
        return rms_norm(run.xp, x, run.vector(name), self.epsilon)

    def attend(self, run: ForwardPass, index: int, normed: Array, view: View) -> Array:
        """Attend in one layer: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        q, k, v = self.queries_keys_values(run, index, normed)
        q = self.rotate(run.xp, q, view.cosines, view.sines)  # [heads, head_size, N, T]
        k = self.rotate(run.xp, k, view.cosines, view.sines)  # [groups, head_size, N, T]
        keys, values = run.cache.append(index, k, v)
        seen = (keys[:, :, view.first :], values[:, :, view.first :])  # [N, groups, S, head_size]
        attended = attention(
            run.xp, q, *seen, view.mask, scale=self.attention_scale, softcap=self.attention_cap
        )
        (output,) = run.project(layer.attention_output, attended)
        return output

    def queries_keys_values(self, run: ForwardPass, index: int, normed: Array) -> tuple[Array, Array, Array]:
        """Project to queries, keys and values, before they are turned: ``[heads, head_size, N, T]``."""
        per_head = (-1, self.heads.size, run.blends, run.length)
        q, k, v = run.project(self.layers[index].query_key_value, normed)
        return q.reshape(per_head), k.reshape(per_head), v.reshape(per_head)

    def feed_forward(self, run: ForwardPass, index: int, normed: Array) -> Array:
        """Feed forward in one layer: ``[width, N * T]`` to the same."""
        layer = self.layers[index]
        gate, up = run.project(layer.gate_up, normed)  # [inner, N * T]
        (fed,) = run.project(layer.down, swiglu(run.xp, gate, up))
        return fed

    def logits(self, run: ForwardPass, hidden: Array) -> Array:
        """Turn columns of `hidden` into logits: ``[width, C] -> [V, C]``."""
        (logits,) = run.project((HEAD,), hidden)
        return logits
