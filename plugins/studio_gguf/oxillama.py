"""oxillama's reading of GGUF adapters: llama.cpp's tensors, scaled by a rank that stands in the metadata.

Its scale is ``lora.alpha / lora.r`` for every module, with ``adapter.lora.…`` in the second place; the rank
is 8 where neither is there, and alpha the rank.
https://github.com/cool-japan/oxillama, crate oxillama-arch, module lora
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.api import Finding, FormatError
from studio_gguf.keys import TYPE

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.api import LoraFactors, MetadataValue

RANK_KEYS = ("lora.r", "adapter.lora.r")
ALPHA_KEYS = ("lora.alpha", "adapter.lora.alpha")
DEFAULT_RANK = 8


def is_oxillamas(metadata: Mapping[str, MetadataValue]) -> bool:
    """Say whether a file is none for llama.cpp, which wants a type, and has one of oxillama's own keys."""
    return TYPE not in metadata and any(key in metadata for key in (*RANK_KEYS, "lora.alpha"))


def own_scaling(metadata: Mapping[str, MetadataValue], path: Path) -> float | None:
    """Return what a file in oxillama's dialect scales by: alpha / r; None where it names no r.

    Raises
    ------
    FormatError
        The rank is no whole number from 1, or alpha no number from 0.
    """
    rank = _rank(metadata)
    alpha = _first(metadata, ALPHA_KEYS)
    for key, value, good in (
        (" or ".join(RANK_KEYS), rank, rank is None or _is_number(rank) and rank == int(rank) >= 1),
        (" or ".join(ALPHA_KEYS), alpha, alpha is None or _is_number(alpha) and alpha >= 0),
    ):
        if not good:
            raise FormatError(
                f"it is {str(value)[:40]}", path=path, where=key, remedy="Convert the adapter again"
            )
    if rank is None:
        return None
    return float(rank if alpha is None else alpha) / float(rank)


def misreading(metadata: Mapping[str, MetadataValue], factors: Mapping[str, LoraFactors]) -> Finding | None:
    """Say how far oxillama's scale is from the one the file means; None where it is the same."""
    rank = _rank(metadata)
    alpha = _first(metadata, ALPHA_KEYS)
    divisor = DEFAULT_RANK if rank is None or not _is_number(rank) else max(int(rank), 1)
    scaling = (float(alpha) if _is_number(alpha) else divisor) / divisor
    wrong = {
        module: scaling / pair.scaling
        for module, pair in factors.items()
        if pair.scaling and not math.isclose(scaling, pair.scaling, rel_tol=1e-6)
    }
    if not wrong:
        return None
    worst = max(wrong.values(), key=lambda ratio: abs(math.log(ratio)) if ratio else math.inf)
    why = (
        f"the rank {divisor} of the metadata"
        if rank is not None
        else f"a rank of {DEFAULT_RANK}, its default"
    )
    return Finding(
        "oxillama-rank",
        "warning",
        f"{len(wrong)} of its modules mean another scale than oxillama computes",
        (("oxillama", f"divides alpha by {why}: it applies {worst:.3g} times what is meant"),),
        "Export the blend with all ranks padded to one, which writes lora.r and lora.alpha",
        tuple(wrong),
    )


def _rank(metadata: Mapping[str, MetadataValue]) -> Any:
    return _first(metadata, RANK_KEYS)


def _first(metadata: Mapping[str, MetadataValue], keys: tuple[str, ...]) -> Any:
    return next((metadata[key] for key in keys if key in metadata), None)


def _is_number(value: Any) -> bool:
    number = isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)
    return number and math.isfinite(value)
