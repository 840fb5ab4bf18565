"""Pairs of single experts, as factors of the weight ``(E, out, in)`` of all of them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import FormatError, UnsupportedError
from studio.lora.adapter import LoraFactors

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_SEPARATE = re.compile(r"(?P<stem>.+\.experts)\.(?P<index>\d{1,6})(?P<part>\.[^.]+)")


def all_experts(module: str) -> str:
    """Return the name of the weight of all experts: ``mlp.experts.up_proj`` of ``mlp.experts.3.up_proj``."""
    match = _SEPARATE.fullmatch(module)
    return match["stem"] + match["part"] if match else module


def _join_experts(parts: Mapping[str, LoraFactors], path: Path) -> LoraFactors:
    """Put the factors of single experts, by their modules, one behind the other.

    Raises
    ------
    UnsupportedError
        Experts are left out, or they differ in rank or scaling.
    """
    by_index = {int(match["index"]): parts[name] for name in parts if (match := _SEPARATE.fullmatch(name))}
    members = [by_index[index] for index in sorted(by_index)]
    kinds = {(factors.shape, factors.rank, factors.scaling) for factors in members}
    if len(kinds) > 1 or sorted(by_index) != list(range(len(members))):
        raise UnsupportedError(
            "the experts of a layer are not adapted alike",
            path=path,
            where=all_experts(next(iter(parts))),
            remedy="Merge it into its base with PEFT and open the merged model",
        )
    a, b = np.stack([factors.a for factors in members]), np.stack([factors.b for factors in members])
    return LoraFactors(a, b, members[0].alpha, members[0].rank_stabilised)


def one_weight(module: str, parts: Mapping[str, LoraFactors], path: Path) -> LoraFactors:
    """Return the factors of one weight of the base, given those of a file's modules that have its name.

    Raises
    ------
    FormatError
        There are several, and they are no experts.
    UnsupportedError
        Experts are left out, or they differ in rank or scaling.
    """
    if all(all_experts(name) != name for name in parts):
        return _join_experts(parts, path)
    if len(parts) > 1:
        raise FormatError(
            f"two modules of the file map to {module}",
            path=path,
            where=list(parts)[1],
            remedy="Save the adapter again",
        )
    return next(iter(parts.values()))
