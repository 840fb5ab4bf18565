"""Reads llama.cpp's GGUF adapters, which have the base's names and row order already."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.api import Adapter, FormatError, GgufFile, LoraFactors, UnsupportedError, listing
from studio_gguf.keys import (
    ADAPTER_TYPE,
    ALPHA,
    ARCHITECTURE,
    EMBEDDING,
    INVOCATION_TOKENS,
    NAME,
    SUFFIX_A,
    SUFFIX_B,
    TYPE,
    Kind,
    kind_of,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.api import BaseModel, MetadataValue


@dataclass(frozen=True)
class GgufAdapterOptions:
    """There is nothing to choose."""


class GgufAdapterLoader:
    """Loads adapters that llama.cpp's converter wrote, or our own export."""

    name = "llama.cpp GGUF adapter"
    Options = GgufAdapterOptions

    def recognises(self, path: Path) -> bool:
        """Say whether it is a GGUF adapter. A damaged file counts, so that loading it tells why."""
        return kind_of(path) in (Kind.ADAPTER, Kind.DAMAGED)

    def load(self, path: Path, base: BaseModel | None, options: GgufAdapterOptions) -> Adapter:
        """Read it; quantised factors are dequantised.

        Raises
        ------
        FormatError
            It is damaged, no adapter, or half a pair is missing.
        UnsupportedError
            It is more than plain LoRA.
        """
        file = GgufFile.open(path)
        try:
            _check_type(file)
            pairs, notes, unmapped = _sort_tensors(file)
            alpha = _alpha(file.metadata, path)
            if alpha is None:
                notes.append(f"{ALPHA} is missing or 0, so its scale is 1, as in llama.cpp")
            factors = {module: _factors(file, module, alpha) for module in pairs}
            name, architecture = file.metadata.get(NAME), file.metadata[ARCHITECTURE]
            return Adapter(
                name if isinstance(name, str) and name.strip() else path.stem,
                factors,
                source=path,
                format=self.name,
                architecture=str(architecture),
                unmapped=unmapped,
                notes=notes,
            )
        finally:
            file.close()


def _check_type(file: GgufFile) -> None:
    if file.metadata.get(TYPE) != "adapter":
        raise FormatError(
            f"the file is of type {file.metadata.get(TYPE)!r}, not 'adapter'",
            path=file.path,
            where=TYPE,
            remedy="Convert the adapter again with llama.cpp's convert_lora_to_gguf.py",
        )
    if file.metadata.get(ADAPTER_TYPE) != "lora":
        raise UnsupportedError(
            f"the adapter is of type {file.metadata.get(ADAPTER_TYPE)!r}, not 'lora'",
            path=file.path,
            where=ADAPTER_TYPE,
            remedy="Use a LoRA adapter",
        )
    if INVOCATION_TOKENS in file.metadata:
        raise UnsupportedError(
            "the adapter acts only after its invocation tokens; as a plain LoRA it would be wrong",
            path=file.path,
            where=INVOCATION_TOKENS,
            remedy="Train it again as plain LoRA",
        )


def _alpha(metadata: Mapping[str, MetadataValue], path: Path) -> float | None:
    """Return alpha, or None where llama.cpp scales by 1."""
    alpha = metadata.get(ALPHA)
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise FormatError(
            f"alpha is {alpha!r}", path=path, where=ALPHA, remedy="It must be a number of at least 0"
        )
    return float(alpha) or None


def _sort_tensors(file: GgufFile) -> tuple[list[str], list[str], list[str]]:
    """Return the modules that have both halves, notes, and the names that cannot be used."""
    pairs: list[str] = []
    norms: list[str] = []
    unknown: list[str] = []
    for name in file.tensors:
        module, dot, half = name.rpartition(".")
        if f"{dot}{half}" not in (SUFFIX_A, SUFFIX_B):
            (norms if name.endswith("_norm.weight") else unknown).append(name)
        elif (module + (SUFFIX_B if half == SUFFIX_A[1:] else SUFFIX_A)) not in file.tensors:
            raise FormatError(
                "half of the pair is missing",
                path=file.path,
                where=name,
                remedy="Convert the adapter again; this file is not complete",
            )
        elif half == SUFFIX_A[1:]:
            pairs.append(module)
    notes = []
    if norms:
        notes.append(f"Norm weights are skipped, as in llama.cpp: {listing(norms, 3)}")
    if unknown:
        notes.append(f"Tensors that are no factors: {listing(unknown, 3)}")
    return pairs, notes, unknown


def _factors(file: GgufFile, module: str, alpha: float | None) -> LoraFactors:
    a, b = file.dense(module + SUFFIX_A), file.dense(module + SUFFIX_B)
    if module == EMBEDDING:
        a, b = b.T, a  # (embd, r) -> A (r, embd); (vocab, r) is B
    elif a.ndim == 1:
        a = a[None, :]  # some writers leave away a dimension of 1, here the rank
    return LoraFactors(a, b, float(a.shape[-2]) if alpha is None else alpha)
