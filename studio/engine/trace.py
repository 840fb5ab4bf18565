"""What a sequence leaves behind under one blend: its keys and values, and what entered each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from studio.engine.backend import Array
    from studio.engine.kv_cache import KvCache
    from studio.engine.layer_scales import LayerScales


class Trace:
    """A sequence as far as it was run under one blend, for another run to go on from.

    Whatever comes later in a sequence leaves its beginning as it is, so a trace serves every sequence that
    begins alike, and every blend up to the first layer that it differs in.

    Parameters
    ----------
    tokens
        The sequence.
    scales
        The blend's.
    is_long
        Whether its positions are turned as those of long sequences (`Model.is_long`).
    cache
        Keys and values of one row.
    inputs
        For each layer, and last for the norm after them, the hidden states that entered it: arrays
        ``[width, positions]`` one after the other, which nobody writes to any more.
    """

    def __init__(
        self,
        tokens: Sequence[int],
        scales: LayerScales,
        is_long: bool,
        cache: KvCache,
        inputs: Sequence[list[Array]],
    ) -> None:
        self.tokens = tokens
        self.scales = scales
        self.is_long = is_long
        self.cache = cache
        self.length = 0
        self._inputs = inputs
        self._input_bytes = sum(int(part.nbytes) for parts in inputs for part in parts)

    @property
    def nbytes(self) -> int:
        """Size in memory."""
        return self.cache.nbytes + self._input_bytes

    def shared(self, tokens: Sequence[int]) -> int:
        """Return how many positions a sequence has in common with what was run."""
        pairs = enumerate(zip(self.tokens[: self.length], tokens, strict=False))
        differing = (position for position, (mine, its) in pairs if mine != its)
        return next(differing, min(self.length, len(tokens)))

    def inputs(self, xp: Any, layer: int, start: int, stop: int) -> Array:
        """Return what entered a layer at some positions, ``[width, stop - start]``."""
        return xp.concatenate(self._inputs[layer], axis=1)[:, start:stop]

    def first_inputs(self, xp: Any, last_layer: int, positions: int) -> list[list[Array]]:
        """Return inputs for another trace: those of the first positions in all layers up to the last."""
        return [
            list(_first(xp, parts, positions)) if layer <= last_layer else []
            for layer, parts in enumerate(self._inputs)
        ]

    def add(self, inputs: Mapping[int, Array]) -> None:
        """Note what entered each layer in a pass that has advanced the cache."""
        for layer, entered in inputs.items():
            self._inputs[layer].append(entered)
            self._input_bytes += int(entered.nbytes)
        self.length = max(self.length, self.cache.length)


def _first(xp: Any, parts: Sequence[Array], positions: int) -> Iterator[Array]:
    """Yield the parts with the first positions: as they are, but for the last, which may be cut."""
    for part in parts:
        if positions <= 0:
            return
        yield part if part.shape[1] <= positions else xp.ascontiguousarray(part[:, :positions])
        positions -= part.shape[1]


@dataclass(frozen=True)
class Start:
    """Where a run over N sequences begins.

    Attributes
    ----------
    cache
        For N rows; its length is the first position to run.
    layer
        The first layer to run at the positions whose inputs are given; all others run from the first.
    inputs
        What enters that layer, ``[width, positions]`` alike for all rows; None where nothing is known.
    trace
        What takes note of the run; None where nothing does.
    """

    cache: KvCache
    layer: int = 0
    inputs: Array | None = None
    trace: Trace | None = None
