"""Gives a file's factors their place in a base: the base's names, its fused weights, its order of rows."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias

from studio.contracts import Finding
from studio.errors import FormatError
from studio.lora.adapter import Adapter, LoraFactors, check_pairs
from studio.lora.dora import AnyAdapter, DoraAdapter
from studio.lora.experts import all_experts, one_weight
from studio.lora.fusing import NamedPair, fit_fused
from studio.lora.names import gguf_module, own_gguf_name, rotated_heads, rows_to_gguf

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import BaseModel

RowOrder: TypeAlias = Literal["auto", "as stored"]
"""Whether rows of Q and K are brought from Hugging Face's order into that of the base."""

WITHOUT_BASE = "Read without a base: names as for the llama architecture, rows as in the file"


@dataclass(frozen=True)
class Placement:
    """A file's factors in their place.

    Attributes
    ----------
    pairs
        By GGUF weight name, with rows in the base's order.
    unmapped
        Names of the file that have none in the base's architecture.
    rows_as_stored
        Whether Q and K rows may stand in another order than the base has them, since there was no base.
    findings
        What was done to fit, which other programs need to do as well.
    """

    pairs: dict[str, NamedPair]
    unmapped: list[str] = field(default_factory=list)
    rows_as_stored: bool = False
    findings: tuple[Finding, ...] = ()

    @property
    def factors(self) -> dict[str, LoraFactors]:
        """The low-rank factors alone."""
        return {name: pair.factors for name, pair in self.pairs.items()}

    def adapter(
        self,
        name: str,
        *,
        source: Path,
        format: str,
        unmapped: tuple[str, ...] = (),
        notes: tuple[str, ...] = (),
        findings: tuple[Finding, ...] = (),
    ) -> AnyAdapter:
        """Make the adapter: a `DoraAdapter` where there are magnitudes.

        Raises
        ------
        FormatError
            Factors or magnitudes do not fit together or are not finite.
        UnsupportedError
            A magnitude is for the embedding or for experts.
        """
        low_rank = Adapter(
            name,
            self.factors,
            source=source,
            format=format,
            unmapped=(*unmapped, *self.unmapped),
            notes=(*notes, *([WITHOUT_BASE] if self.rows_as_stored else [])),
            findings=(*findings, *self.findings),
            rows_as_stored=self.rows_as_stored,
        )
        magnitudes = {
            module: pair.magnitude for module, pair in self.pairs.items() if pair.magnitude is not None
        }
        return DoraAdapter(low_rank, magnitudes) if magnitudes else low_rank


def place(
    pairs: Mapping[str, NamedPair], base: BaseModel | None, path: Path, row_order: RowOrder = "auto"
) -> Placement:
    """Place pairs by the names a file has for them: Hugging Face's, Meta's or GGUF's.

    Rows go with names: under a GGUF name they stand as in a GGUF base, under any other as Hugging Face has
    them. Without a base names are as for the llama architecture, and rows stay.

    Raises
    ------
    FormatError
        Two names stand for one module.
    UnsupportedError
        The names of the base's architecture are not known.
    MismatchError
        Q, K or a part of a fused weight does not fit the base.
    """
    check_pairs({name: pair.factors for name, pair in pairs.items()}, path)
    named: dict[str, dict[str, NamedPair]] = {}
    unmapped = []
    for name, pair in pairs.items():
        plain = name.removesuffix(".weight")
        architecture = base.architecture if base else "llama"
        module = own_gguf_name(plain) or gguf_module(all_experts(plain), architecture)
        if module is None:
            unmapped.append(name)
        elif plain in named.setdefault(module, {}):
            raise FormatError(f"two modules of the file map to {module}", path=path, where=name)
        else:
            named[module][plain] = pair
    placed: dict[str, NamedPair] = {}
    foreign: dict[str, NamedPair] = {}
    for module, parts in named.items():
        whole = one_weight(module, {name: pair.factors for name, pair in parts.items()}, path)
        magnitude = next(iter(parts.values())).magnitude if len(parts) == 1 else None
        is_own = any(own_gguf_name(name) for name in parts)
        (placed if is_own else foreign)[module] = NamedPair(whole, magnitude)
    if base is None:
        return Placement(placed | foreign, unmapped, rows_as_stored=bool(foreign))
    fitted = fit(foreign, base, row_order)
    if double := placed.keys() & fitted.pairs.keys():
        raise FormatError("two modules of the file map to it", path=path, where=min(double))
    return Placement(placed | fitted.pairs, unmapped, findings=fitted.findings)


def fit(pairs: Mapping[str, NamedPair], base: BaseModel, row_order: RowOrder = "auto") -> Placement:
    """Fit pairs under the base's names, with rows in Hugging Face's order, to its fused weights and rows.

    Raises
    ------
    MismatchError
        Q, K or a part of a fused weight does not fit the base.
    FormatError
        The base's metadata lacks its head counts.
    """
    fitted, changes = fit_fused(pairs, base)
    reordered = []
    for module, pair in fitted.items():
        heads = rotated_heads(module, base.architecture, base.metadata) if row_order == "auto" else None
        if heads is not None:
            fitted[module] = _reorder(pair, heads)
            reordered.append(module)
    findings = []
    if changes:
        old, new = next(iter(changes.items()))
        findings.append(
            Finding(
                "fused",
                "info",
                f"The base keeps {len(changes)} of its weights otherwise: {old} became {', '.join(new)}",
                (("llama.cpp", "refuses an adapter with modules that its base lacks"),),
                "Export the blend with the studio, which writes the base's own modules",
                tuple(changes),
            )
        )
    if reordered:
        findings.append(
            Finding(
                "permutation",
                "info",
                f"The rows of Q and K of {len(reordered)} modules stand as Hugging Face has them; "
                f"{base.architecture} bases in GGUF have them in another order, and so has the adapter here",
                (("zerfoo", "its converter leaves the rows as they are"),),
                "Export the adapter with the studio for programs that run GGUF bases",
                tuple(reordered),
            )
        )
    return Placement(fitted, findings=tuple(findings))


def _reorder(pair: NamedPair, heads: int) -> NamedPair:
    """Bring the rows of Q or K, which are the rows of B, into the order of the base."""
    factors, magnitude = pair.factors, pair.magnitude
    return NamedPair(
        LoraFactors(factors.a, rows_to_gguf(factors.b, heads), factors.alpha, factors.rank_stabilised),
        None if magnitude is None else rows_to_gguf(magnitude, heads),
    )
