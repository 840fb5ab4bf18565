"""The program of one token: a model's plan, tiled weights and the adapters' factors, written out in steps."""

from __future__ import annotations

import weakref
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.kernels.memory import aligned
from studio.engine.kernels.program import Operand, Program
from studio.engine.kernels.tiles import ROWS, Tiles, tile_dense
from studio.engine.model import HEAD, LinearGroup

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import FloatArray
    from studio.engine.adapter_bank import AdapterBank
    from studio.engine.kernels.walkers import Walkers
    from studio.engine.kv_cache import KvCache
    from studio.engine.token_plan import BlockPlan, TokenPlan


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
        self._angles = aligned((2, len(plan.frequencies)), np.float32)
        self._cached: weakref.ref[KvCache] | None = None
        self._capacity = 0
        self._scores = np.zeros(0, np.float32)
        self._cache_rows: list[tuple[int, int, int]] = []
        self._program = Program(walkers)
        self._write()

    def logits(self, embedded: FloatArray, cache: KvCache, scales: FloatArray | None) -> FloatArray:
        """Run one token, whose keys and values join the cache.

        Parameters
        ----------
        embedded
            float32 ``[width]``: the token's embedding.
        cache
            Of one blend; its length is the token's position.
        scales
            float32 ``[ranks]``: what each rank is scaled by.

        Returns
        -------
        FloatArray
            float32 ``[vocabulary]``.
        """
        position = cache.length
        cache.reserve(position + 1)
        self._use(cache)
        if scales is not None:
            self._scales[: scales.size] = scales
        angles = self._plan.frequencies * position
        self._angles[0], self._angles[1] = np.cos(angles), np.sin(angles)
        self._x.values[0, : embedded.size] = embedded
        self._program.run(position)
        cache.advance(1)
        return self._logits[: self._weights.tiles[HEAD].shape[0]].copy()

    def _use(self, cache: KvCache) -> None:
        """Point the steps to a cache."""
        if self._cached is not None and self._cached() is cache and self._capacity == cache.capacity:
            return
        self._scores = aligned((self._threads, -(-cache.capacity // ROWS) * ROWS), np.float32)
        steps = self._program.steps
        for layer, (key_row, value_row, attend_row) in enumerate(self._cache_rows):
            keys, values = (array.ctypes.data for array in cache.layer(layer))
            steps[key_row, 7:9] = keys, cache.capacity
            steps[value_row, 7:9] = values, cache.capacity
            steps[attend_row, 5:8] = keys, values, cache.capacity
            steps[attend_row, 9:11] = self._scores.ctypes.data, self._scores[0].nbytes
        self._cached, self._capacity = weakref.ref(cache), cache.capacity

    def _write(self) -> None:
        """Write the steps of every block and of the head."""
        plan, program = self._plan, self._program
        width = self._weights.vectors[plan.output_norm].size
        inner = self._weights.tiles[plan.blocks[0].gate_up[0]].shape[0]
        self._x = Operand(width)
        self._normed = Operand(width, self._threads)
        self._queries, self._keys, self._values = (
            self._rows(heads * plan.head_size) for heads in (plan.heads, plan.groups, plan.groups)
        )
        self._attended = Operand(plan.heads * plan.head_size)
        self._gates, self._ups = self._rows(inner), self._rows(inner)
        self._hidden = Operand(inner)
        self._own = Operand(max(inner, plan.heads * plan.head_size), self._threads)
        self._logits = self._rows(self._weights.tiles[HEAD].shape[0])
        for block in plan.blocks:
            self._write_attention(block)
            self._write_feed_forward(block)
        self._write_norm(plan.output_norm)
        self._write_products((HEAD,), self._normed, (self._logits,))
        program.finish()

    def _write_attention(self, block: BlockPlan) -> None:
        plan, program = self._plan, self._program
        self._write_norm(block.attention_norm)
        outputs = (self._queries, self._keys, self._values)
        self._write_products(block.query_key_value, self._normed, outputs)
        count, size = len(plan.frequencies), plan.head_size
        apart = plan.pairs_apart
        program.turn(self._queries, plan.heads, size, self._angles, apart=apart, count=count)
        keys = program.turn(self._keys, plan.groups, size, self._angles, apart=apart, count=count)
        values = program.turn(self._values, plan.groups, size, self._angles, apart=apart, count=0)
        program.meet()
        attend = program.attend(self._queries, self._attended, plan.heads, plan.groups, size)
        self._cache_rows.append((keys, values, attend))
        program.meet()
        self._write_residual(block.attention_output, self._attended)

    def _write_feed_forward(self, block: BlockPlan) -> None:
        self._write_norm(block.feed_forward_norm)
        self._write_products(block.gate_up, self._normed, (self._gates, self._ups))
        self._program.gate(self._gates, self._ups, self._hidden)
        self._program.meet()
        self._write_residual(block.down, self._hidden)

    def _write_norm(self, name: str) -> None:
        fixed = self._x.size % 32 == 0
        self._program.norm(
            self._x, self._weights.vectors[name], self._plan.epsilon, self._normed, fixed=fixed
        )

    def _write_residual(self, group: LinearGroup, inputs: Operand) -> None:
        """Write x += W inputs."""
        if self._weights.tiles[group[0]].kind.coded:
            self._program.fix(inputs, self._own)
        self._write_products(group, inputs, (self._x.values[0],), adds=True)

    def _write_products(
        self, group: LinearGroup, inputs: Operand, outputs: tuple[FloatArray, ...], *, adds: bool = False
    ) -> None:
        """Write the products of a group with the adapters' A among them, then those with their B."""
        factors, program = self._factors.get(group), self._program
        for name, output in zip(group, outputs, strict=True):
            tiles = self._weights.tiles[name]
            x = self._own if tiles.kind.coded and not inputs.stride else inputs
            program.product(tiles, x, output, bias=self._weights.biases.get(name), adds=adds)
        if factors is not None:
            hidden = self._rows(factors.a.shape[0])
            program.product(factors.a, inputs, hidden, scale=self._scales[factors.ranks.start :])
            program.meet()
            for index, b, ranks in factors.members:
                program.product(b, hidden[ranks.start :], outputs[index], adds=True)
        program.meet()

    @staticmethod
    def _rows(count: int) -> FloatArray:
        """Return memory for outputs of whole tiles."""
        room: FloatArray = aligned((-(-count // ROWS) * ROWS,), np.float32)
        return room
