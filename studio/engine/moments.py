"""Second moments of what enters the linear weights while a blend reads texts."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from studio.engine.compiled_numpy import plain_product
from studio.engine.linear import Linear
from studio.engine.weights import StoredLinear, Weights

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from studio.contracts import BlendState, Cancelled, FloatArray
    from studio.engine.backend import Array
    from studio.engine.compiled_numpy import Multiply
    from studio.engine.local import LocalEngine
    from studio.engine.model import LinearGroup


@dataclass(frozen=True)
class WatchedLinear(Linear):
    """A `Linear` that shows its inputs ``[in, C]`` to somebody."""

    note: Callable[[Array], None]

    def apply(self, columns: Array, multiply: Multiply = plain_product) -> tuple[Array, ...]:
        """Show the columns, and multiply."""
        self.note(columns)
        return super().apply(columns, multiply)


@dataclass(frozen=True)
class WatchedStoredLinear(StoredLinear):
    """A `StoredLinear` that shows its inputs ``[in, C]`` to somebody."""

    note: Callable[[Array], None]

    def apply(self, columns: Array, multiply: Multiply = plain_product) -> tuple[Array, ...]:
        """Show the columns, and multiply."""
        self.note(columns)
        return super().apply(columns, multiply)


class _Enough(Exception):
    """The last group that anybody asks for has been seen."""


class MomentRecorder:
    """Sums up x x^T over the inputs x of groups of weights; weights of a group share their inputs.

    Parameters
    ----------
    engine
        Has its base open and its adapters attached, and is used for nothing else meanwhile.
    modules
        The weights whose inputs matter, by GGUF name. Experts of a layer share one moment.
    """

    def __init__(self, engine: LocalEngine, modules: Collection[str]) -> None:
        self._engine = engine
        groups = (*engine.weights.linears, *engine.weights.experts)
        wanted = [group for group in groups if any(name in modules for name in group)]
        self._sums: dict[LinearGroup, Array] = {}
        self._columns = dict.fromkeys(wanted, 0)
        self._seen: set[LinearGroup] = set()

    def feed(self, tokens: Sequence[int], state: BlendState, cancelled: Cancelled) -> int:
        """Let the blend read one text of no more tokens than one pass takes; return how many they are."""
        self._seen.clear()
        try:
            with self._engine.watching(lambda weights: watched(weights, self._note, self._columns)):
                self._engine.evaluate(tokens, state, positions="all", cancelled=cancelled)
        except _Enough:
            pass
        return len(tokens)

    def moments(self) -> dict[str, FloatArray]:
        """Return the mean of x x^T, float32 ``[in, in]``, by weight, then forget it."""
        found: dict[str, FloatArray] = {}
        while self._sums:
            group, total = self._sums.popitem()
            moment = self._engine.to_host(total)
            moment /= self._columns[group]
            found.update(dict.fromkeys(group, moment))
        return found

    def _note(self, group: LinearGroup, columns: Array) -> None:
        moment = columns @ columns.T  # [in, C] @ [C, in] -> [in, in]
        if group in self._sums:
            self._sums[group] += moment
        else:
            self._sums[group] = moment
        self._columns[group] += columns.shape[1]
        self._seen.add(group)
        if len(self._seen) == len(self._columns) and group not in self._engine.weights.experts:
            raise _Enough


def watched(
    weights: Weights,
    note: Callable[[LinearGroup, Array], None],
    groups: Collection[LinearGroup],
) -> Weights:
    """Return the same weights, which show the inputs of some groups on the way."""

    def watch(group: LinearGroup, linear: Linear | StoredLinear) -> Linear | StoredLinear:
        if group not in groups:
            return linear
        if isinstance(linear, StoredLinear):
            return WatchedStoredLinear(linear.weights, linear.biases, partial(note, group))
        return WatchedLinear(linear.weight, linear.bias, linear.outputs, partial(note, group))

    return replace(
        weights,
        linears={group: watch(group, linear) for group, linear in weights.linears.items()},
        experts={
            group: tuple(watch(group, part) for part in parts) for group, parts in weights.experts.items()
        },
    )
