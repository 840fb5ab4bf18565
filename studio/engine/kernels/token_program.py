"""The program of one token: a model's plan, tiled weights and the adapters' factors, written out in steps."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from studio.engine.kernels.memory import aligned
from studio.engine.kernels.program import HeadNorm, Operand, Program
from studio.engine.kernels.tiles import BLOCK, ROWS, Tiles, tile_dense
from studio.engine.model import HEAD, LinearGroup
from studio.engine.operators import soft_cap

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import FloatArray
    from studio.engine.adapter_bank import AdapterBank
    from studio.engine.kernels.walkers import Walkers
    from studio.engine.kv_cache import KvCache
    from studio.engine.token_plan import BlockPlan, NormPlan, TokenPlan


Vectors: TypeAlias = "tuple[FloatArray, ...]"


@dataclass(frozen=True)
class TiledWeights:
    """What a program multiplies by.

    Attributes
    ----------
    tiles
        By weight name; the head's under its own name even where the embedding stands for it.
    biases
        float32 ``[out]``, by weight name, of the weights that have one.
    vectors
        float32 ``[D]``, by name.
    """

    tiles: Mapping[str, Tiles]
    biases: Mapping[str, FloatArray]
    vectors: Mapping[str, FloatArray]


@dataclass(frozen=True)
class TiledFactors:
    """The adapters' factors of one group.

    Attributes
    ----------
    a
        All its A factors, ``[R, in]``.
    ranks
        Which of the bank's ranks are its R.
    members
        For each weight that any adapter acts on: its place in the group, its B, and which of the R are its.
    """

    a: Tiles
    ranks: slice
    members: tuple[tuple[int, Tiles, slice], ...]


def tile_bank(bank: AdapterBank) -> dict[LinearGroup, TiledFactors]:
    """Interleave the factors of a bank on the CPU, as float16 where they came as such."""
    return {
        group: TiledFactors(
            tile_dense(packed.a, smallest=True),
            packed.ranks,
            tuple(
                (member.index, tile_dense(member.b, smallest=True), member.ranks) for member in packed.members
            ),
        )
        for group, packed in bank.packed.items()
    }


class TokenProgram:
    """Decodes tokens one by one.

    Parameters
    ----------
    plan
        The model's.
    weights
        The base's.
    factors
        The adapters', by group; empty for the base alone.
    ranks
        How many ranks the bank has.
    walkers
        The threads.
    """

    def __init__(
        self,
        plan: TokenPlan,
        weights: TiledWeights,
        factors: Mapping[LinearGroup, TiledFactors],
        ranks: int,
        walkers: Walkers,
    ) -> None:
        self._plan = plan
        self._weights = weights
        self._factors = factors
        self._threads = walkers.threads
        self._scales = aligned((ranks + ROWS,), np.float32)
        ropes = {id(block.rope): block.rope for block in plan.blocks}
        self._angles = {
            key: (rope, aligned((2, len(rope.frequencies)), np.float32)) for key, rope in ropes.items()
        }
        self._cached: weakref.ref[KvCache] | None = None
        self._capacity = 0
        self._scores = np.zeros((0, 0), np.float32)
        self._cache_rows: list[tuple[int, int, int]] = []
        self._program = Program(walkers)
        self._make_room()
        self._write()

    def logits(
        self, embedded: FloatArray, cache: KvCache, horizon: int, scales: FloatArray | None
    ) -> FloatArray:
        """Run one token, whose keys and values join the cache.

        Parameters
        ----------
        embedded
            float32 ``[width]``: the token's embedding.
        cache
            Of one blend; its length is the token's position.
        horizon
            How long the sequence may become.
        scales
            float32 ``[ranks]``: what each rank is scaled by.

        Returns
        -------
        FloatArray
            float32 ``[vocabulary]``.
        """
        plan, position = self._plan, cache.length
        cache.reserve(position + 1)
        self._use(cache)
        if scales is not None:
            self._scales[: scales.size] = scales
        for rope, turns in self._angles.values():
            if plan.long_rope is not None and horizon > plan.original_context:
                rope = plan.long_rope
            angles = rope.frequencies * position
            turns[0], turns[1] = rope.magnitude * np.cos(angles), rope.magnitude * np.sin(angles)
        self._x.values[:, : embedded.size] = embedded
        self._program.run(position)
        cache.advance(1)
        logits = self._logits[: self._weights.tiles[HEAD].shape[0]] * np.float32(plan.logit_scale)
        return logits if plan.logit_cap is None else soft_cap(np, logits, plan.logit_cap)

    def _use(self, cache: KvCache) -> None:
        """Point the steps to a cache."""
        if self._cached is not None and self._cached() is cache and self._capacity == cache.capacity:
            return
        self._scores = aligned((self._threads, -(-cache.capacity // ROWS) * ROWS), np.float32)
        for layer, (key_row, value_row, attend_row) in enumerate(self._cache_rows):
            keys, values = cache.layer(layer)
            self._program.store_in(key_row, keys)
            self._program.store_in(value_row, values)
            self._program.attend_to(attend_row, keys, values, self._scores)
        self._cached, self._capacity = weakref.ref(cache), cache.capacity

    def _make_room(self) -> None:
        """Make the memory that all blocks work in, one after the other."""
        plan, block = self._plan, self._plan.blocks[0]
        queries, keys = plan.heads * plan.head_size, plan.groups * plan.head_size
        width = self._weights.vectors[plan.output_norm.weight].size
        inner = self._weights.tiles[block.down[0]].shape[1]
        # Where a norm stands between a part and x, every thread adds up an x of its own.
        self._x = Operand(width, self._threads if plan.has_post_norms else 1)
        self._normed = Operand(width, self._threads)
        self._projected, heads = _room(block.query_key_value, (queries, keys, keys))
        self._queries, self._keys, self._values = heads
        self._turned = _rows(queries)
        self._attended = Operand(queries)
        self._entered, self._gate_up = _room(block.gate_up, (inner,) * (1 + plan.gated))
        self._hidden = Operand(inner)
        self._part = Operand(width)
        self._fixed = Operand(max(width, inner, queries), self._threads)
        self._logits = _rows(self._weights.tiles[HEAD].shape[0])

    def _write(self) -> None:
        """Write the steps of every block and of the head."""
        plan, program = self._plan, self._program
        for block in plan.blocks:
            attention_input = self._write_input(block.attention_norm)
            self._write_attention(block, attention_input)
            self._write_residual(block.attention_output, self._attended, block.attention_post_norm)
            own_input = attention_input if block.is_parallel else self._write_input(block.feed_forward_norm)
            self._write_feed_forward(block, own_input)
            self._write_residual(block.down, self._hidden, block.feed_forward_post_norm)
        self._write_products((HEAD,), self._write_input(plan.output_norm), (self._logits,))
        program.finish()

    def _write_attention(self, block: BlockPlan, x: Operand) -> None:
        plan, program = self._plan, self._program
        self._write_products(block.query_key_value, x, self._projected)
        size, apart = plan.head_size, plan.pairs_apart
        angles = self._angles[id(block.rope)][1]
        query_norm, key_norm = self._head_norm(block.query_norm), self._head_norm(block.key_norm)
        program.turn(self._queries, plan.heads, size, angles, apart=apart, norm=query_norm, out=self._turned)
        keys = program.turn(self._keys, plan.groups, size, angles, apart=apart, norm=key_norm)
        values = program.turn(self._values, plan.groups, size, angles[:, :0], apart=apart)
        program.meet()
        attend = program.attend(
            self._turned,
            self._attended,
            plan.heads,
            plan.groups,
            size,
            scale=plan.attention_scale,
            cap=plan.attention_cap,
            window=block.window,
        )
        self._cache_rows.append((keys, values, attend))
        program.meet()

    def _write_feed_forward(self, block: BlockPlan, x: Operand) -> None:
        self._write_products(block.gate_up, x, self._entered)
        ups = self._gate_up[1] if self._plan.gated else None
        self._program.gate(self._gate_up[0], ups, self._hidden, self._plan.activation)
        self._program.meet()

    def _write_input(self, norm: NormPlan | None) -> Operand:
        """Write what a part takes: x, normalised where it has a norm."""
        if norm is not None:
            self._write_norm(norm, self._x, self._normed)
            return self._normed
        self._program.fix(self._x, self._x)
        return self._x

    def _write_norm(self, norm: NormPlan, x: Operand, out: Operand, *, adds: bool = False) -> None:
        vectors = self._weights.vectors
        self._program.norm(
            x,
            vectors[norm.weight],
            self._plan.epsilon,
            out,
            fixed=not adds and x.size % BLOCK == 0,
            bias=None if norm.bias is None else vectors[norm.bias],
            centred=norm.centred,
            adds=adds,
        )

    def _head_norm(self, norm: NormPlan | None) -> HeadNorm | None:
        if norm is None:
            return None
        return HeadNorm(self._weights.vectors[norm.weight], self._plan.epsilon, norm.centred)

    def _write_residual(self, group: LinearGroup, inputs: Operand, post_norm: NormPlan | None) -> None:
        """Write x += W inputs, scaled or normalised before it is added."""
        if self._weights.tiles[group[0]].kind.coded:
            self._program.fix(inputs, self._fixed)
        if post_norm is None:
            self._write_products(group, inputs, (self._x.values[0],), fixed=self._fixed, adds=True)
        else:
            self._write_products(group, inputs, (self._part.values[0],), fixed=self._fixed)
            self._write_norm(post_norm, self._part, self._x, adds=True)

    def _write_products(
        self,
        group: LinearGroup,
        inputs: Operand,
        outputs: tuple[FloatArray, ...],
        *,
        fixed: Operand | None = None,
        adds: bool = False,
    ) -> None:
        """Write the products of a group with the adapters' A among them, then those with their B.

        Parameters
        ----------
        fixed
            Has the inputs' fixed point, where they have not.
        adds
            Whether the outputs are x, to which the residual scale lets products add.
        """
        factors, program = self._factors.get(group), self._program
        scale = self._plan.residual_scale if adds else 1.0
        for name, output in zip(group, outputs, strict=True):
            tiles, bias = self._weights.tiles[name], self._weights.biases.get(name)
            program.product(
                tiles,
                fixed if tiles.kind.coded and fixed is not None else inputs,
                output,
                scale=_all(scale, output),
                bias=None if bias is None else bias * np.float32(scale),
                adds=adds,
            )
        if factors is not None:
            hidden = _rows(factors.a.shape[0])
            program.product(factors.a, inputs, hidden, scale=self._scales[factors.ranks.start :])
            program.meet()
            for index, b, ranks in factors.members:
                output = outputs[index]
                program.product(b, hidden[ranks.start :], output, scale=_all(scale, output), adds=True)
        program.meet()


def _all(scale: float, output: FloatArray) -> FloatArray | None:
    """Return the scale of every row of an output; None for 1."""
    return None if scale == 1 else np.full(output.size, scale, np.float32)


def _room(group: LinearGroup, counts: tuple[int, ...]) -> tuple[Vectors, Vectors]:
    """Make room for the outputs of a group, and say where its parts, of so many rows, lie in it.

    A group of one weight has them one after the other.
    """
    if len(group) == len(counts):
        parts = tuple(_rows(count) for count in counts)
        return parts, parts
    fused = _rows(sum(counts) + ROWS)  # a tile more, since the last part need not begin at one
    starts = [sum(counts[:index]) for index in range(len(counts))]
    return (fused,), tuple(fused[start:] for start in starts)


def _rows(count: int) -> FloatArray:
    """Return memory for outputs of whole tiles."""
    room: FloatArray = aligned((-(-count // ROWS) * ROWS,), np.float32)
    return room
