"""The architecture `llama`: Llama, Mistral, SmolLM2 and their kin.

Touvron et al. 2023, https://arxiv.org/abs/2302.13971, section 2.2, with grouped attention.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.kv_cache import CacheShape
from studio.engine.model import EMBEDDING, HEAD, ForwardPass, LinearGroup
from studio.engine.models.hyperparameters import Hyperparameters, Size
from studio.engine.operators import attention, causal_mask, rms_norm, rotate_pairs, swiglu
from studio.engine.token_plan import BlockPlan, TokenPlan

if TYPE_CHECKING:
    from studio.contracts import BaseModel
    from studio.engine.backend import Array, HostArray

ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True)
class LlamaLayer:
    """The tensor names of one layer, grouped as they are multiplied."""

    attention_norm: str
    query_key_value: LinearGroup
    attention_output: LinearGroup
    feed_forward_norm: str
    gate_up: LinearGroup
    down: LinearGroup

    @classmethod
    def named(cls, index: int) -> LlamaLayer:
        """Return the names of layer `index`."""
        block = f"blk.{index}"
        return cls(
            attention_norm=f"{block}.attn_norm.weight",
            query_key_value=(f"{block}.attn_q.weight", f"{block}.attn_k.weight", f"{block}.attn_v.weight"),
            attention_output=(f"{block}.attn_output.weight",),
            feed_forward_norm=f"{block}.ffn_norm.weight",
            gate_up=(f"{block}.ffn_gate.weight", f"{block}.ffn_up.weight"),
            down=(f"{block}.ffn_down.weight",),
        )


@dataclass(frozen=True)
class Llama:
    """A llama of given hyperparameters.

    Attributes
    ----------
    frequencies
        float64 ``[angles]``: by how many radians a position turns each pair of rows.
    """

    vocabulary_size: int
    context_length: int
    heads: int
    groups: int
    head_size: int
    epsilon: float
    frequencies: HostArray
    layers: tuple[LlamaLayer, ...]

    @classmethod
    def from_base(cls, base: BaseModel) -> Llama:
        """Read and check the hyperparameters. Raises `FormatError` naming the key, or `UnsupportedError`."""
        read = Hyperparameters(base)
        blocks = read.count("block_count")
        read.check_block_count(blocks)
        if read.value("expert_count"):
            raise read.unsupported("expert_count", "a mixture of experts")
        width = read.count("embedding_length")
        heads = read.count("attention.head_count")
        groups = read.count("attention.head_count_kv", heads)
        if heads % groups:
            raise read.fault("attention.head_count_kv", f"{heads} heads do not share {groups} keys evenly")
        size_key = "attention.key_length"
        if read.value(size_key) is None:
            size_key = "attention.head_count"
            if width % heads:
                raise read.fault(size_key, f"a width of {width} does not divide into {heads} heads")
        head_size = read.count("attention.key_length", width // heads)
        if read.count("attention.value_length", head_size) != head_size:
            raise read.unsupported("attention.value_length", "values of another length than the keys")
        rotated = read.count("rope.dimension_count", head_size)
        if rotated > head_size or rotated % 2:
            raise read.fault(
                "rope.dimension_count", f"{rotated} is no even number up to the head size {head_size}"
            )
        layers = tuple(LlamaLayer.named(index) for index in range(blocks))
        if read.value("vocab_size") is not None:
            vocabulary = Size(read.count("vocab_size"), read.key("vocab_size"))
        else:
            vocabulary = Size(base.tensors[EMBEDDING].shape[0] if EMBEDDING in base.tensors else 0, EMBEDDING)
        read.check_tensors(
            *_tensor_shapes(
                layers,
                vocabulary=vocabulary,
                width=Size(width, read.key("embedding_length")),
                queries=Size(heads * head_size, read.key(size_key)),
                keys=Size(groups * head_size, read.key("attention.head_count_kv")),
                inner=Size(read.count("feed_forward_length"), read.key("feed_forward_length")),
                angles=Size(rotated // 2, read.key("rope.dimension_count")),
            )
        )
        return cls(
            vocabulary_size=vocabulary.value,
            context_length=read.count("context_length"),
            heads=heads,
            groups=groups,
            head_size=head_size,
            epsilon=read.number("attention.layer_norm_rms_epsilon"),
            frequencies=_rope_frequencies(read, rotated),
            layers=layers,
        )

    @property
    def cache_shape(self) -> CacheShape:
        """What one position takes in the cache."""
        return CacheShape(len(self.layers), self.groups, self.head_size)

    @property
    def token_plan(self) -> TokenPlan:
        """How it decodes one token."""
        blocks = tuple(BlockPlan(**vars(layer)) for layer in self.layers)
        return TokenPlan(
            blocks=blocks,
            output_norm="output_norm.weight",
            heads=self.heads,
            groups=self.groups,
            head_size=self.head_size,
            epsilon=self.epsilon,
            frequencies=self.frequencies,
        )

    @property
    def linear_groups(self) -> tuple[LinearGroup, ...]:
        """Every group of every layer, and the head."""
        groups = [
            group
            for layer in self.layers
            for group in (layer.query_key_value, layer.attention_output, layer.gate_up, layer.down)
        ]
        return (*groups, (HEAD,))

    @property
    def vectors(self) -> tuple[str, ...]:
        """The weights of the norms."""
        norms = [norm for layer in self.layers for norm in (layer.attention_norm, layer.feed_forward_norm)]
        return (*norms, "output_norm.weight")

    def hidden(self, run: ForwardPass) -> Array:
        """Run all layers over the new positions: ``[width, N * T]``, normalised for the head."""
        xp = run.xp
        positions = np.arange(run.start, run.start + run.length)
        angles = np.multiply.outer(self.frequencies, positions)[:, None]  # [angles, 1, T]
        cosines = run.to_device(np.cos(angles).astype(np.float32))
        sines = run.to_device(np.sin(angles).astype(np.float32))
        mask = causal_mask(xp, run.start, run.length)
        per_head = (-1, self.head_size, run.blends, run.length)

        x = run.embed()  # [width, N * T]
        for index, layer in enumerate(self.layers):
            run.enter_layer()
            normed = rms_norm(xp, x, run.vector(layer.attention_norm), self.epsilon)
            q, k, v = (part.reshape(per_head) for part in run.project(layer.query_key_value, normed))
            q = rotate_pairs(xp, q, cosines, sines)  # [heads, head_size, N, T]
            k = rotate_pairs(xp, k, cosines, sines)  # [groups, head_size, N, T]
            keys, values = run.cache.append(index, k, v)
            (attended,) = run.project(layer.attention_output, attention(xp, q, keys, values, mask))
            x = x + attended

            normed = rms_norm(xp, x, run.vector(layer.feed_forward_norm), self.epsilon)
            gate, up = run.project(layer.gate_up, normed)  # [inner, N * T]
            (fed,) = run.project(layer.down, swiglu(xp, gate, up))
            x = x + fed
        return rms_norm(xp, x, run.vector("output_norm.weight"), self.epsilon)

    def logits(self, run: ForwardPass, hidden: Array) -> Array:
        """Turn columns of `hidden` into logits: ``[width, C] -> [V, C]``."""
        (logits,) = run.project((HEAD,), hidden)
        return logits


def _tensor_shapes(
    layers: tuple[LlamaLayer, ...],
    *,
    vocabulary: Size,
    width: Size,
    queries: Size,
    keys: Size,
    inner: Size,
    angles: Size,
) -> tuple[dict[str, tuple[Size, ...]], dict[str, tuple[Size, ...]]]:
    """List the shapes of the tensors a llama must have, and of those it may have."""
    required: dict[str, tuple[Size, ...]] = {EMBEDDING: (vocabulary, width), "output_norm.weight": (width,)}
    optional: dict[str, tuple[Size, ...]] = {HEAD: (vocabulary, width), ROPE_FACTORS: (angles,)}
    for layer in layers:
        required[layer.attention_norm] = required[layer.feed_forward_norm] = (width,)
        linear = {
            **dict(zip(layer.query_key_value, (queries, keys, keys), strict=True)),
            **dict.fromkeys(layer.attention_output + layer.down, width),
            **dict.fromkeys(layer.gate_up, inner),
        }
        inputs = {**dict.fromkeys(layer.attention_output, queries), **dict.fromkeys(layer.down, inner)}
        for name, out in linear.items():
            required[name] = (out, inputs.get(name, width))
            optional[f"{name.removesuffix('.weight')}.bias"] = (out,)
    return required, optional


def _rope_frequencies(read: Hyperparameters, rotated: int) -> HostArray:
    """Return each pair's turn per position, ``[rotated / 2]``: base^(-2i / rotated), scaled as the file says.

    Linear scaling: Chen et al. 2023, https://arxiv.org/abs/2306.15595. Factors per pair, as Llama 3.1 has
    them, are a tensor of their own.
    """
    base = read.number("rope.freq_base", 10000.0)
    frequencies: HostArray = base ** (-np.arange(0, rotated, 2, dtype=np.float64) / rotated)
    if ROPE_FACTORS in read.base.tensors:
        frequencies = frequencies / read.base.dense(ROPE_FACTORS)
    scaling = read.value("rope.scaling.type") or "none"
    if scaling not in ("none", "linear"):
        raise read.unsupported("rope.scaling.type", f"RoPE scaling of the type {scaling!r}")
    if scaling == "linear":
        return frequencies / read.number("rope.scaling.factor")
    return frequencies / read.number("rope.scale_linear", 1.0)
