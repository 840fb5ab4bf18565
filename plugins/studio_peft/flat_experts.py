"""Factors of experts ``(E, out, in)`` in PEFT's flat form, as `studio_peft.experts` reads it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.api import DeltaPart, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class FlatExperts:
    """Pairs on experts in PEFT's flat form.

    Attributes
    ----------
    parts
        By the name of the parameter, such as ``model.layers.0.mlp.experts.down_proj``: whose rank and alpha
        the configuration tells.
    tensors
        By key, without PEFT's prefix.
    """

    parts: Mapping[str, DeltaPart]
    tensors: Mapping[str, np.ndarray[Any, Any]]


def flatten_experts(factors: Mapping[str, DeltaPart]) -> FlatExperts:
    """Bring the pairs of experts, by their Hugging Face names, into the form that `split_flat` reads.

    Gate and up are one parameter there and share their A: its ranks are those of both, and B is zero where
    the one's ranks meet the other's rows. Where two parameters of a layer have a pair, the first is nested
    innermost, and so has ``base_layer`` in its key.

    Raises
    ------
    UnsupportedError
        Only one of gate and up is adapted: how many rows the other has is not known here.
    """
    layers: dict[str, dict[str, DeltaPart]] = {}
    for name, part in factors.items():
        if part.a.ndim == 3:
            stem, _, end = name.rpartition(".")
            layers.setdefault(stem, {})[end] = part
    parts: dict[str, DeltaPart] = {}
    tensors: dict[str, np.ndarray[Any, Any]] = {}
    for stem, own in layers.items():
        found: dict[str, DeltaPart] = {}
        if "gate_proj" in own or "up_proj" in own:
            found["gate_up_proj"] = _gate_and_up(own, stem)
        if "down_proj" in own:
            found["down_proj"] = own["down_proj"]
        for depth, (parameter, part) in enumerate(reversed(found.items())):
            key = stem + ".base_layer" * depth
            parts[f"{stem}.{parameter}"] = part
            tensors[f"{key}.lora_A.weight"] = part.a.reshape(-1, part.a.shape[-1])  # [E * r, in]
            tensors[f"{key}.lora_B.weight"] = np.ascontiguousarray(
                part.b.transpose(1, 2, 0).reshape(part.b.shape[1], -1)  # [out, r * E]
            )
    return FlatExperts(parts, tensors)


def _gate_and_up(own: Mapping[str, DeltaPart], stem: str) -> DeltaPart:
    gate, up = own.get("gate_proj"), own.get("up_proj")
    if gate is None or up is None:
        raise UnsupportedError(
            "only one of gate and up is adapted, which PEFT has in one parameter",
            where=f"{stem}.gate_up_proj",
            remedy="Export as a stacked adapter (GGUF)",
        )
    a = np.concatenate([gate.a, up.a], axis=-2)  # [E, r + r', in]
    halves = [gate.b * np.float32(gate.scale), up.b * np.float32(up.scale)]
    empty = [np.zeros((*gate.b.shape[:-1], up.b.shape[-1])), np.zeros((*up.b.shape[:-1], gate.b.shape[-1]))]
    top = np.concatenate([halves[0], empty[0]], axis=-1)
    bottom = np.concatenate([empty[1], halves[1]], axis=-1)
    return DeltaPart(a, np.concatenate([top, bottom], axis=-2).astype(np.float32), 1.0)
