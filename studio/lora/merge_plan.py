"""What becomes of every tensor of a base in a merge: its type, its grid, and whether the blend acts on it."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from studio.engine.model import EMBEDDING, HEAD
from studio.errors import UnsupportedError
from studio.formats.grids import LAYOUTS
from studio.formats.quantisation_mixes import MIXES, mix_types
from studio.formats.quantise import FLOAT_TYPES, can_quantise
from studio.lora.merging import TensorPlan
from studio.lora.storing import Storage, storage_for

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from studio.contracts import BaseModel, TensorInfo
    from studio.lora.storing import RoundingChoice

ALWAYS_TIED = frozenset({"gemma", "gemma2", "command-r", "cohere2", "bitnet", "openelm"})
"""Architectures in which llama.cpp refuses an ``output.weight``, by its src/models."""

KEEP = "keep"
"""The choice that leaves every tensor the type it has."""


def plan_tensors(
    base: BaseModel,
    modules: Collection[str],
    type_name: str = KEEP,
    rounding: RoundingChoice = "nearest",
    *,
    has_imatrix: bool = False,
) -> dict[str, TensorPlan]:
    """Plan a merge, tensor by tensor in the base's order.

    Where the base ties its output to its embedding and the blend acts on one of them, the file gets an
    ``output.weight`` of its own after the embedding: an adapter never means both.

    Parameters
    ----------
    base
        The base.
    modules
        The weights that the blend acts on.
    type_name
        `KEEP`, or a key of `MIXES`.
    rounding
        How weights that the blend acts on are rounded where they are quantised.
    has_imatrix
        Whether there is an importance matrix, on which some mixes depend.

    Raises
    ------
    UnsupportedError
        A weight that the blend acts on is of a type that cannot be written, or the architecture has no
        output of its own.
    """
    tensors: dict[str, TensorInfo] = {}
    sources = {}
    parts = HEAD not in base.tensors and not {EMBEDDING, HEAD}.isdisjoint(modules)
    if parts and base.architecture in ALWAYS_TIED:
        raise UnsupportedError(
            f"the blend tells embedding and output apart, and in {base.architecture} llama.cpp cannot",
            path=base.path,
            where=EMBEDDING if EMBEDDING in modules else HEAD,
            remedy="Give that weight the gain 0, or export an adapter",
        )
    for name, info in base.tensors.items():
        tensors[name], sources[name] = info, name
        if name == EMBEDDING and parts:
            tensors[HEAD] = replace(info, name=HEAD)
            sources[HEAD] = EMBEDDING
    if type_name == KEEP:
        types = {name: info.type_name for name, info in tensors.items()}
    else:
        types = mix_types(type_name, tensors, base.metadata, has_imatrix=has_imatrix)
    plans = {}
    for name, info in tensors.items():
        changed = name in modules
        if changed and not can_quantise(types[name], info.shape[-1]):
            raise UnsupportedError(
                f"weights of type {types[name]} can be read but not written",
                path=base.path,
                where=name,
                remedy="Merge to another type, such as Q8_0",
            )
        storage = Storage(types[name])
        if changed:
            storage = storage_for(info.type_name, types[name], rounding)
        plans[name] = TensorPlan(name, sources[name], info.shape, info.type_name, storage, changed)
    return plans


def without_grid(plans: Mapping[str, TensorPlan]) -> list[str]:
    """Return the types, quantised and kept, in which a delta can only be rounded to the nearest."""
    return sorted(
        {
            plan.base_type
            for plan in plans.values()
            if plan.changed
            and plan.storage.type_name == plan.base_type
            and plan.base_type not in (*LAYOUTS, *FLOAT_TYPES)
        }
    )


def file_type(plans: Mapping[str, TensorPlan], type_name: str, old: object) -> int:
    """Return the number for ``general.file_type``.

    That of the mix; where types are kept, the base's, unless promotions have made another type the one that
    most weights have.
    """
    if type_name != KEEP:
        return MIXES[type_name].number
    before, after = Counter[str](), Counter[str]()
    for plan in plans.values():
        before[plan.base_type] += math.prod(plan.shape)
        after[plan.storage.type_name] += math.prod(plan.shape)
    most = after.most_common(1)[0][0]
    if isinstance(old, int) and before.most_common(1)[0][0] == most:
        return old
    return next((mix.number for mix in MIXES.values() if mix.default == most), 0)
