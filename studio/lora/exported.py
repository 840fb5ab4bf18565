"""What an export writes: the modules that a blend acts on, checked against the base, and their factors."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import DeltaPart, LowRankAdapter, ScaledDelta
from studio.engine.low_rank import weight_shape
from studio.engine.model import EMBEDDING, HEAD
from studio.errors import MismatchError, StudioError, UnsupportedError
from studio.lora.adapter import listing
from studio.lora.combining import module_parts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import DeltaAdapter, ExportRequest, FloatArray


def exported_modules(
    request: ExportRequest, *, tied_output: bool = False, full_rank: bool = False
) -> list[str]:
    """Return the modules that some audible adapter acts on, in the base's order, once all are known to fit.

    Parameters
    ----------
    request
        What is exported.
    tied_output
        Whether the format can adapt the output of a base that has no ``output.weight`` of its own, apart from
        the embedding that it shares.
    full_rank
        Whether the format holds deltas of full rank, as merged weights do and adapters do not.

    Raises
    ------
    StudioError
        Nothing is audible.
    UnsupportedError
        An adapter does not show its factors.
    MismatchError
        An adapter acts on what the base lacks, or on a weight of another shape.
    """
    shapes = {module: info.shape for module, info in request.base.tensors.items()}
    if tied_output and EMBEDDING in shapes:
        shapes.setdefault(HEAD, shapes[EMBEDDING])
    found: set[str] = set()
    for channel in request.state.channels:
        adapter = request.adapters[channel.key]
        if isinstance(adapter, ScaledDelta):
            if request.combination is None and not full_rank:
                raise UnsupportedError(
                    f"{adapter.name} is DoRA: what it adds is of full rank, so no exported adapter can be it",
                    remedy="Merge it into its base, which is exact, or combine it by the method svd",
                )
            audible = [module for module in adapter.modules if channel.scale_of(module) != 0]
            if missing := [module for module in audible if module not in shapes]:
                raise _missing(adapter, missing, request)
            found.update(audible)
            continue
        if not isinstance(adapter, LowRankAdapter):
            raise UnsupportedError(
                f"{adapter.name} shows no low-rank factors, so it cannot become part of an exported adapter",
                remedy="Mute it or remove it from the stack",
            )
        audible = [module for module in adapter.factors if channel.scale_of(module) != 0]
        if missing := [module for module in audible if module not in shapes]:
            raise _missing(adapter, missing, request)
        for module in audible:
            shape = weight_shape(adapter.factors[module])
            if shape != shapes[module]:
                raise MismatchError(
                    f"{adapter.name} is for a weight {shape}, {request.base.name} has {shapes[module]}",
                    where=module,
                    remedy="Load an adapter of this base",
                )
        found.update(audible)
    if not found:
        raise StudioError(
            "the blend is silent: no adapter is audible", remedy="Add an adapter, unmute one or raise a scale"
        )
    return [module for module in shapes if module in found]


def exported_parts(request: ExportRequest, module: str) -> tuple[DeltaPart, ...]:
    """Return the deltas, in factors, whose sum an export writes for a module.

    Raises
    ------
    UnsupportedError
        The request's method leaves a dense delta, which no adapter holds.
    """
    parts = module_parts(module, request.adapters, request.state)
    if request.combination is None or not parts:
        return parts
    delta = request.combination.method.combine(module, parts, request.combination.options)
    if not isinstance(delta, DeltaPart):
        raise UnsupportedError(
            f"{request.combination.method.name} gives a delta of full rank, which no adapter holds",
            where=module,
            remedy="Compress it to a rank, or merge it into the base",
        )
    return (delta,)


def join_parts(parts: Sequence[DeltaPart], *, alpha: float | None = None) -> DeltaPart:
    """Put parts side by side as one pair whose scaling is alpha / rank, as files have it.

    Parameters
    ----------
    parts
        At least one. A single part keeps its factors to the bit where the format may choose alpha.
    alpha
        The alpha of the file: B takes what is left of the scales. None lets each module have its own.

    Returns
    -------
    DeltaPart
        A ``(R, in)`` and B ``(out, R)``; its scale is alpha / R.
    """
    if alpha is None and len(parts) == 1 and parts[0].scale > 0:
        return parts[0]
    a = np.concatenate([part.a for part in parts], axis=-2)
    scale = 1.0 if alpha is None else alpha / a.shape[-2]
    b = np.concatenate([part.b * np.float64(part.scale / scale) for part in parts], axis=-1)
    with np.errstate(over="ignore"):  # writers refuse infinity by name
        return DeltaPart(a, b.astype(np.float32), scale)


def pad_rank(part: DeltaPart, rank: int) -> DeltaPart:
    """Add ranks of zeros to a pair: the same delta, by factors of the rank that is asked for.

    The scale stays, so whoever scales by alpha / rank needs a larger alpha.
    """
    missing = rank - part.a.shape[-2]
    if missing < 0:
        raise ValueError(f"rank {part.a.shape[-2]} is no less than {rank}")
    if missing == 0:
        return part
    return DeltaPart(_padded(part.a, -2, missing), _padded(part.b, -1, missing), part.scale)


def _padded(array: FloatArray, axis: int, count: int) -> FloatArray:
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, count)
    return np.pad(array, widths)


def _missing(adapter: DeltaAdapter, missing: Sequence[str], request: ExportRequest) -> MismatchError:
    tied = missing == [HEAD] and EMBEDDING in request.base.tensors
    why = ", which ties its output to its embedding" if tied else ""
    return MismatchError(
        f"{adapter.name} acts on modules that {request.base.name} lacks: {listing(missing, 3)}{why}",
        remedy="Export a PEFT directory, or merge the blend into the base; llama.cpp refuses such an adapter"
        if tied
        else "Mute it; llama.cpp refuses an adapter for weights that its base lacks",
    )
