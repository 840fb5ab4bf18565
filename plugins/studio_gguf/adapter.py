"""Reads llama.cpp's GGUF adapters, which have the base's names and row order already."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.api import Adapter, Finding, FormatError, GgufFile, LoraFactors, UnsupportedError, listing
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
from studio_gguf.oxillama import ALPHA_KEYS, is_oxillamas, misreading, own_scaling

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.api import BaseModel, MetadataValue


@dataclass(frozen=True)
class GgufAdapterOptions:
    """There is nothing to choose."""


class GgufAdapterLoader:
    """Loads adapters that llama.cpp's converter wrote, or our own export, and those of oxillama."""

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
        file = GgufFile.open_part(path)
        try:
            oxillamas = is_oxillamas(file.metadata)
            if not oxillamas:
                file.check_architecture()
                _check_type(file)
            pairs, norms, unknown = _sort_tensors(file)
            notes, findings = _leftovers(norms, unknown)
            if oxillamas:
                scaling, alpha = own_scaling(file.metadata, path), _alpha(file.metadata, path, ALPHA_KEYS)
                findings.append(_DIALECT)
            else:
                scaling, alpha = None, _alpha(file.metadata, path, (ALPHA,))
                if alpha is None:
                    notes.append(f"{ALPHA} is missing or 0, so its scale is 1, as in llama.cpp")
                    findings.append(_no_alpha(file.metadata))
            factors = {module: _factors(file, module, alpha, scaling) for module in pairs}
            if finding := misreading(file.metadata, factors):
                findings.append(finding)
            name, architecture = file.metadata.get(NAME), file.metadata.get(ARCHITECTURE)
            return Adapter(
                name if isinstance(name, str) and name.strip() else path.stem,
                factors,
                source=path,
                format="oxillama GGUF adapter" if oxillamas else self.name,
                architecture=str(architecture) if architecture is not None else None,
                unmapped=unknown,
                notes=notes,
                findings=findings,
            )
        finally:
            file.close()


_DIALECT = Finding(
    "dialect",
    "warning",
    "It is in oxillama's dialect: the file does not say that it is an adapter",
    (("llama.cpp", "refuses it"),),
    "Export the blend with the studio, which writes llama.cpp's dialect",
)


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


def _alpha(metadata: Mapping[str, MetadataValue], path: Path, keys: tuple[str, ...]) -> float | None:
    """Return alpha, or None where the scale is 1: where there is none, or llama.cpp finds 0."""
    alpha = next((metadata[key] for key in keys if key in metadata), None)
    if alpha is None:
        return None
    if isinstance(alpha, bool) or not isinstance(alpha, int | float) or not 0 <= alpha < math.inf:
        raise FormatError(
            f"alpha is {alpha!r}",
            path=path,
            where=" or ".join(keys),
            remedy="It must be a number of at least 0",
        )
    return float(alpha) or None


def _no_alpha(metadata: Mapping[str, MetadataValue]) -> Finding:
    if ALPHA in metadata:
        return Finding(
            "zero-alpha",
            "warning",
            "Alpha is 0, which llama.cpp and the studio read as an effective scale of 1",
            (("oxillama", "reads it as 0: there the adapter is silent"),),
            "Export the blend with the studio, which writes an alpha",
            (ALPHA,),
        )
    return Finding(
        "no-alpha",
        "warning",
        "Alpha is missing, which llama.cpp and the studio read as an effective scale of 1",
        (("zerfoo", "refuses a file without alpha"),),
        "Export the blend with the studio, which writes an alpha",
        (ALPHA,),
    )


def _leftovers(norms: list[str], unknown: list[str]) -> tuple[list[str], list[Finding]]:
    """Say what does not act: norm weights, and tensors that are no factors."""
    notes, findings = [], []
    if norms:
        notes.append(f"Norm weights are skipped, as in llama.cpp: {listing(norms, 3)}")
        findings.append(
            Finding(
                "norm-tensors",
                "warning",
                f"It holds {len(norms)} whole norm weights, which do not act",
                (("llama.cpp", "skips them without a word"),),
                "Merge the adapter with the program that trained it, if they were trained",
                tuple(norms),
            )
        )
    if unknown:
        notes.append(f"Tensors that are no factors: {listing(unknown, 3)}")
        findings.append(
            Finding(
                "stray-tensors",
                "warning",
                f"It holds {len(unknown)} tensors that are no factors, which do not act",
                (("llama.cpp", "refuses the file for them"),),
                "Export the blend with the studio, which leaves them out",
                tuple(unknown),
            )
        )
    return notes, findings


def _sort_tensors(file: GgufFile) -> tuple[list[str], list[str], list[str]]:
    """Return the modules that have both halves, the norm weights, and the names that cannot be used."""
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
    return pairs, norms, unknown


def _factors(file: GgufFile, module: str, alpha: float | None, scaling: float | None) -> LoraFactors:
    """Read a pair; a scaling that the file gives wins over alpha, which the tensor's rank divides."""
    a, b = file.dense(module + SUFFIX_A), file.dense(module + SUFFIX_B)
    if module == EMBEDDING:
        a, b = b.T, a  # (embd, r) -> A (r, embd); (vocab, r) is B
    elif a.ndim == 1:
        a = a[None, :]  # some writers leave away a dimension of 1, here the rank
    rank = float(a.shape[-2])
    if scaling is not None:
        return LoraFactors(a, b, alpha=scaling * rank)
    return LoraFactors(a, b, rank if alpha is None else alpha)
