"""Adapters of a smaller rank: each module cut to the rank that a limit asks for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.contracts import DeltaPart, Progress
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.algebra import compress, singular_values
from studio.lora.rearranging import with_factors

if TYPE_CHECKING:
    from collections.abc import Generator

    from studio.lora.algebra import RankLimit
    from studio.lora.algebra.singular import Doubles


def resize(adapter: Adapter, limit: RankLimit) -> Generator[Progress, None, Adapter]:
    """Cut every module to the rank that the limit asks for, and return the adapter that comes of it.

    Each module becomes the best approximation of its rank. One that is within a limit on the rank alone keeps
    its factors and its alpha; any other has the scaling 1, alpha = rank.
    """
    resized = {}
    for done, (module, pair) in enumerate(adapter.factors.items()):
        yield Progress(done, len(adapter.factors), f"Resizing {module}")
        part = DeltaPart(pair.a, pair.b, pair.scaling)
        cut = compress(part, limit)
        resized[module] = pair if cut is part else as_factors(cut)
    return with_factors(adapter, adapter.name, resized)


def spectra(adapter: Adapter) -> Generator[Progress, None, list[Doubles]]:
    """Return the singular values of every module, for an error curve over the rank."""
    found = []
    for done, (module, pair) in enumerate(adapter.factors.items()):
        yield Progress(done, len(adapter.factors), f"Measuring {module}")
        found.append(singular_values(DeltaPart(pair.a, pair.b, pair.scaling)))
    return found


def as_factors(part: DeltaPart) -> LoraFactors:
    """Return a part as factors whose scaling is 1, its own scale taken into B."""
    b = part.b if part.scale == 1 else part.b * part.scale
    return LoraFactors(part.a, b, float(part.a.shape[-2]))
