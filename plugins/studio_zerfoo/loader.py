"""Reads zerfoo's GGUF adapters, of its inference and of its training: llama.cpp's container, other names.

Inference: ``lora_a.<layer>`` (rank, in) and ``lora_b.<layer>`` (out, rank). Training:
``lora.<layer>.weight_a`` and ``.weight_b``. Both have ``lora.rank`` and ``lora.alpha``. A layer has whatever
name the trained model gave it: Hugging Face's, or GGUF's.
https://github.com/zerfoo/zerfoo/blob/main/inference/lora/adapter.go, training/lora/checkpoint.go
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from studio.api import (
    Finding,
    FormatError,
    GgufFile,
    LoraFactors,
    NamedPair,
    RowOrder,
    StudioError,
    place,
    read_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from studio.api import AnyAdapter, BaseModel, MetadataValue

RANK, ALPHA, TYPE = "lora.rank", "lora.alpha", "general.type"
_INFERENCE = re.compile(r"lora_(?P<half>[ab])\.(?P<layer>.+)")
_TRAINING = re.compile(r"lora\.(?P<layer>.+)\.weight_(?P<half>[ab])")
_LLAMA_CPP = (".lora_a", ".lora_b")


@dataclass(frozen=True)
class ZerfooOptions:
    """How a zerfoo adapter is read."""

    row_order: RowOrder = field(
        default="auto",
        metadata={
            "help": "Row order of Q and K. 'auto' brings the rows of layers with Hugging Face's names into "
            "the order of the base, as its architecture asks; 'as stored' leaves them.",
            "choices": ("auto", "as stored"),
        },
    )


class ZerfooLoader:
    """Loads both dialects."""

    name = "zerfoo GGUF adapter"
    Options = ZerfooOptions

    def recognises(self, path: Path) -> bool:
        """Say whether it is GGUF with zerfoo's tensor names and none of llama.cpp's."""
        try:
            with path.open("rb") as file:
                if file.read(4) != b"GGUF":
                    return False
            header = read_header(path)
        except (OSError, ValueError, StudioError):
            return False
        return is_zerfoos(header.tensors, header.metadata)

    def load(self, path: Path, base: BaseModel | None, options: ZerfooOptions) -> AnyAdapter:
        """Read it, with names and rows as `base` has them; without a base, as a llama would.

        Raises
        ------
        FormatError
            It is damaged, half a pair is missing, or a rank is not that of the metadata.
        UnsupportedError
            The base's architecture is not known.
        MismatchError
            Q, K or a part of a fused weight does not fit the base.
        """
        file = GgufFile.open_part(path)  # it need not name an architecture
        try:
            rank, alpha = _rank(file.metadata, path), _alpha(file.metadata, path)
            layers, unknown = _sort(file.tensors, path)
            pairs = {
                layer: NamedPair(_factors(file, layer, halves, rank, alpha))
                for layer, halves in layers.items()
            }
        finally:
            file.close()
        findings = [
            Finding(
                "dialect",
                "info",
                "It is a GGUF file in zerfoo's own dialect",
                (("llama.cpp", "refuses it"), ("oxillama", "finds no pairs in it")),
                "Export the blend with the studio, which writes llama.cpp's dialect",
            )
        ]
        placement = place(pairs, base, path, options.row_order)
        return placement.adapter(
            path.stem, source=path, format=self.name, unmapped=tuple(unknown), findings=tuple(findings)
        )


def is_zerfoos(names: Iterable[str], metadata: Mapping[str, MetadataValue]) -> bool:
    """Say whether the tensors are named in a dialect of zerfoo's; llama.cpp's names win over them."""
    names = list(names)
    if metadata.get(TYPE) == "adapter" or any(name.endswith(_LLAMA_CPP) for name in names):
        return False
    return any(_match(name) for name in names)


def _match(name: str) -> re.Match[str] | None:
    return _INFERENCE.fullmatch(name) or _TRAINING.fullmatch(name)


def _sort(names: Iterable[str], path: Path) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Sort tensor names by layer and half; what is neither is listed."""
    layers: dict[str, dict[str, str]] = {}
    unknown = []
    for name in names:
        match = _match(name)
        if match is None:
            unknown.append(name)
            continue
        halves = layers.setdefault(match["layer"], {})
        if match["half"] in halves:
            raise FormatError(
                "the layer stands in both dialects", path=path, where=name, remedy="Save the adapter again"
            )
        halves[match["half"]] = name
    for layer, halves in layers.items():
        if len(halves) < 2:
            raise FormatError(
                "half of the pair is missing",
                path=path,
                where=layer,
                remedy="Save the adapter again; this file is not complete",
            )
    return layers, unknown


def _factors(file: GgufFile, layer: str, halves: Mapping[str, str], rank: int, alpha: float) -> LoraFactors:
    a, b = file.dense(halves["a"]), file.dense(halves["b"])
    if not (a.ndim == b.ndim == 2 and a.shape[0] == b.shape[1] == rank):
        raise FormatError(
            f"A {a.shape} and B {b.shape} do not have the rank {rank} of {RANK}",
            path=file.path,
            where=layer,
            remedy="Save the adapter again",
        )
    return LoraFactors(a, b, alpha)


def _rank(metadata: Mapping[str, MetadataValue], path: Path) -> int:
    rank: Any = metadata.get(RANK)
    if isinstance(rank, bool) or not isinstance(rank, int | np.integer) or rank < 1:
        raise FormatError(
            f"the rank is {str(rank)[:40]}, not a whole number from 1",
            path=path,
            where=RANK,
            remedy="Save the adapter again",
        )
    return int(rank)


def _alpha(metadata: Mapping[str, MetadataValue], path: Path) -> float:
    alpha: Any = metadata.get(ALPHA)
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise FormatError(
            f"alpha is {str(alpha)[:40]}, not a number from 0",
            path=path,
            where=ALPHA,
            remedy="Save the adapter again",
        )
    return float(alpha)
