"""Reads a bare safetensors file with an adapter's weights; the user says which alpha they have."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from studio.api import (
    Finding,
    FormatError,
    LoraFactors,
    NamedPair,
    RowOrder,
    UnsupportedError,
    listing,
    place,
    read_safetensors,
)
from studio_safetensors.keys import Half, half_of, is_whole_weight

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np

    from studio.api import AnyAdapter, BaseModel

CONFIG = "adapter_config.json"
WITH_CONFIG = ("adapter_model.safetensors", "adapters.safetensors")
MAX_HEADER_BYTES = 25 << 20


@dataclass(frozen=True)
class SafetensorsOptions:
    """What the file does not say."""

    alpha: float = field(
        default=0.0,
        metadata={
            "help": "The alpha it was trained with (lora_alpha); bare weights do not tell.",
            "range": (0.0, 1e6),
        },
    )
    row_order: RowOrder = field(
        default="auto",
        metadata={
            "help": "Row order of Q and K. 'auto' brings the rows of modules with Hugging Face's names into "
            "the order of the base, as its architecture asks; 'as stored' leaves them.",
            "choices": ("auto", "as stored"),
        },
    )


class SafetensorsLoader:
    """Loads the weights of PEFT, MLX-LM or llama.cpp's names, by their keys."""

    name = "bare safetensors"
    Options = SafetensorsOptions

    def recognises(self, path: Path) -> bool:
        """Say whether the header names a pair, and no configuration beside it makes it a directory's."""
        try:
            if path.name in WITH_CONFIG and (path.parent / CONFIG).is_file():
                return False
            halves = [half_of(key) for key in _keys(path)] if path.is_file() else []
            return any(half is not None and half.kind != "magnitude" for half in halves)
        except (OSError, ValueError, RecursionError):
            return False

    def load(self, path: Path, base: BaseModel | None, options: SafetensorsOptions) -> AnyAdapter:
        """Read it, with names and rows as `base` has them; without a base, as a llama would.

        Raises
        ------
        FormatError
            The option `alpha` is not given, the file is damaged, or half a pair is missing.
        UnsupportedError
            It holds whole weights, or the base's architecture is not known.
        MismatchError
            Q, K or a part of a fused weight does not fit the base.
        """
        if options.alpha == 0:
            raise FormatError(
                "bare weights do not say which alpha they were trained with",
                path=path,
                where="alpha",
                remedy="Give it by --alpha NUMBER on the command line or Add adapter with options on the "
                f"desk, or put its {CONFIG} beside it",
            )
        pairs, unknown = _pairs(read_safetensors(path), options.alpha, path)
        finding = Finding(
            "no-alpha",
            "warning",
            f"The file does not tell its alpha; it is read with the given one, {options.alpha:g}",
            (("PEFT", "needs the adapter_config.json"), ("MLX", "needs the adapter_config.json")),
            "Save it with its configuration",
        )
        placement = place(pairs, base, path, options.row_order)
        return placement.adapter(
            path.stem, source=path, format=self.name, unmapped=tuple(unknown), findings=(finding,)
        )


def _keys(path: Path) -> list[str]:
    """Return the keys that the header lists. Raises `ValueError` where it is no safetensors file."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER_BYTES:
            raise ValueError("no header")
        header = json.loads(file.read(length))
    return list(header) if isinstance(header, dict) else []


def _pairs(
    tensors: Mapping[str, np.ndarray[Any, Any]], alpha: float, path: Path
) -> tuple[dict[str, NamedPair], list[str]]:
    """Pair the tensors by module, the way up that PEFT has them; what is no half is listed."""
    halves: dict[str, dict[str, Half]] = {}
    arrays: dict[str, np.ndarray[Any, Any]] = {}
    unknown: list[str] = []
    for key, tensor in tensors.items():
        half = half_of(key)
        if half is None:
            unknown.append(key)
            continue
        parts = halves.setdefault(half.module, {})
        if half.kind in parts:
            raise FormatError(
                f"the module has {half.kind} twice", path=path, where=key, remedy="Save one adapter a file"
            )
        parts[half.kind] = half
        arrays[key] = tensor
    if whole := [key for key in unknown if is_whole_weight(key)]:
        raise UnsupportedError(
            f"the file holds whole weights beside the low-rank ones: {listing(whole, 3)}; "
            "as a plain LoRA it would be wrong",
            path=path,
            remedy="Merge it into its base with the program that trained it",
        )
    return {module: _pair(module, parts, arrays, alpha, path) for module, parts in halves.items()}, unknown


def _pair(
    module: str,
    parts: Mapping[str, Half],
    arrays: Mapping[str, np.ndarray[Any, Any]],
    alpha: float,
    path: Path,
) -> NamedPair:
    if not {"A", "B"} <= parts.keys():
        raise FormatError(
            "half of the pair is missing", path=path, where=module, remedy="Copy the file again"
        )
    a, b = arrays[parts["A"].key], arrays[parts["B"].key]
    if parts["A"].layout != parts["B"].layout:
        raise FormatError("its halves are in two dialects", path=path, where=module, remedy="Save it again")
    if a.ndim == b.ndim == 2:
        a, b = parts["A"].layout.turn(a, b)
    magnitude = arrays[parts["magnitude"].key].reshape(-1) if "magnitude" in parts else None
    return NamedPair(LoraFactors(a, b, alpha), magnitude)
