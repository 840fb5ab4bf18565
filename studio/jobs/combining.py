"""Combining a blend into one adapter as a job, module by module."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.contracts import DeltaPart, Progress
from studio.errors import UnsupportedError
from studio.lora.adapter import Adapter
from studio.lora.combining import combined_delta
from studio.lora.exported import exported_modules
from studio.lora.resizing import as_factors

if TYPE_CHECKING:
    from collections.abc import Generator

    from studio.contracts import ExportRequest


def combine_adapter(request: ExportRequest, name: str) -> Generator[Progress, None, Adapter]:
    """Return the adapter that a request's method makes of the blend; at scale 1 it is that.

    Raises
    ------
    StudioError
        Nothing is audible, or an adapter does not fit the base.
    UnsupportedError
        The method leaves a delta of full rank.
    """
    modules = exported_modules(request, tied_output=True, full_rank=True)
    factors = {}
    for done, module in enumerate(modules):
        yield Progress(done, len(modules), f"Combining {module}")
        delta = combined_delta(request, module)
        if delta is None:
            continue
        if not isinstance(delta, DeltaPart):
            raise UnsupportedError(
                "this is a delta of full rank, which no adapter holds",
                where=module,
                remedy="Choose a rank or an energy, or merge it into the base",
            )
        factors[module] = as_factors(delta)
    return Adapter(name, factors, architecture=request.base.architecture)
