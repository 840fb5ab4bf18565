"""PEFT's flat pairs of experts, of ``target_parameters``, as factors of a weight ``(E, out, in)``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from studio.api import FormatError, LoraFactors, MismatchError, gguf_module

if TYPE_CHECKING:
    from pathlib import Path

    from studio.api import BaseModel
    from studio_peft.config import PeftConfig
    from studio_peft.keys import Pair

_FLAT = re.compile(r"(?P<stem>.+\.experts)(?:\.base_layer)*")
"""Where several parameters of one module have a pair, the first is nested innermost."""


def is_flat(module: str) -> bool:
    """Say whether the pair acts on a parameter that all experts share."""
    return _FLAT.fullmatch(module) is not None


def split_flat(
    module: str, pair: Pair, config: PeftConfig, base: BaseModel, path: Path
) -> dict[str, LoraFactors]:
    """Take a flat pair apart: A ``(E * r, in)`` and B ``(out, r * E)``, with gate and up in one.

    Returns
    -------
    dict
        By GGUF name; empty where the base has no experts of this name.

    Raises
    ------
    MismatchError
        It fits none of the base's experts.
    FormatError
        It has not the rank of the configuration.
    """
    match = _FLAT.fullmatch(module)
    stem = match["stem"] if match else module
    gate, up, down = (
        gguf_module(f"{stem}.{part}_proj", base.architecture) for part in ("gate", "up", "down")
    )
    if gate is None or up is None or down is None or down not in base.tensors:
        return {}
    experts, width, inner = base.tensors[down].shape
    if (pair.b.shape[0], pair.a.shape[1]) == (2 * inner, width):
        parameter, names = "gate_up_proj", [gate, up]
    elif (pair.b.shape[0], pair.a.shape[1]) == (width, inner):
        parameter, names = "down_proj", [down]
    else:
        raise MismatchError(
            f"A {pair.a.shape} and B {pair.b.shape} fit no experts ({experts}, {width}, {inner})",
            path=path,
            where=module,
            remedy="Open the base it was trained on",
        )
    rank = config.rank_of(f"{stem}.{parameter}")
    if not pair.a.shape[0] == pair.b.shape[1] == experts * rank:
        raise FormatError(
            f"A {pair.a.shape} and B {pair.b.shape} do not have the rank {rank} for {experts} experts",
            path=path,
            where=module,
            remedy="Bring together the two files of one adapter",
        )
    a = pair.a.reshape(experts, rank, -1)
    b = pair.b.reshape(-1, rank, experts).transpose(2, 0, 1)  # [E, out, r]
    alpha = config.alpha_of(f"{stem}.{parameter}")
    halves = np.split(b, len(names), axis=1)
    return {
        name: LoraFactors(a, np.ascontiguousarray(half), alpha, config.rank_stabilised)
        for name, half in zip(names, halves, strict=True)
    }
