"""A limit on the rank of whatever a method of combining makes, so that any adapter format can hold it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.contracts import Combination
from studio.lora.algebra import RankLimit, compress
from studio.lora.combining import concatenate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import DeltaPart


@dataclass(frozen=True)
class LimitedMethod:
    """Combines as another method does, and keeps the best approximation within the limit.

    Attributes
    ----------
    inner
        The other method with its options; None for the sum of the deltas.
    """

    inner: Combination | None
    Options = RankLimit

    @property
    def name(self) -> str:
        """The other method's name, and that it is cut."""
        return f"{self.inner.method.name if self.inner else 'sum'}, cut"

    def combine(self, module: str, parts: Sequence[DeltaPart], options: RankLimit) -> DeltaPart:
        """Combine the deltas of one module, and cut what comes of it."""
        if self.inner is None:
            return compress(concatenate(parts), options)
        return compress(self.inner.method.combine(module, parts, self.inner.options), options)


def limited(combination: Combination | None, limit: RankLimit) -> Combination | None:
    """Return a combination cut to a limit, or the combination itself where there is none."""
    return Combination(LimitedMethod(combination), limit) if limit else combination
