"""Q, K and V apart or in one weight, gate and up likewise: factors made for one kind of base fit the other.

Rows of a fused weight stand one part after the other, so both ways are exact: a fused pair is cut by rows of
B and its parts share A; parts become one pair with A one above the other and B in blocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from studio.errors import MismatchError, UnsupportedError
from studio.lora.adapter import LoraFactors
from studio.lora.targets import layer_of, module_name, target_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from studio.contracts import BaseModel, FloatArray


@dataclass(frozen=True, eq=False)
class NamedPair:
    """The factors of one module and, of DoRA, the magnitude of each row ``(out,)``."""

    factors: LoraFactors
    magnitude: FloatArray | None = None

    def rows(self, rows: slice) -> NamedPair:
        """Return the pair that acts on a run of rows alone."""
        factors = self.factors
        cut = LoraFactors(factors.a, factors.b[rows], factors.alpha, factors.rank_stabilised)
        return NamedPair(cut, None if self.magnitude is None else self.magnitude[rows])


@dataclass(frozen=True)
class Fusion:
    """How one layer of a base keeps a weight that others have otherwise.

    Attributes
    ----------
    whole
        The name of the fused weight.
    parts
        The names of its parts in the order of their rows, and how many rows each has.
    is_fused
        Whether the base has the whole.
    """

    whole: str
    parts: tuple[tuple[str, int], ...]
    is_fused: bool

    @property
    def total(self) -> int:
        """How many rows the whole has."""
        return sum(rows for _, rows in self.parts)


def fit_fused(
    pairs: Mapping[str, NamedPair], base: BaseModel
) -> tuple[dict[str, NamedPair], dict[str, tuple[str, ...]]]:
    """Cut or join pairs where the base keeps their weights otherwise. Rows are in Hugging Face's order.

    Returns
    -------
    dict
        All pairs, by the names of the base.
    dict
        What was made of what: the new names by old, or by the first of several.

    Raises
    ------
    MismatchError
        A part has another number of rows than the base.
    UnsupportedError
        Some parts have magnitudes and others do not.
    """
    fitted = {name: pair for name, pair in pairs.items() if pair.factors.a.ndim == 2}
    others = {name: pair for name, pair in pairs.items() if name not in fitted}
    changes: dict[str, tuple[str, ...]] = {}
    for layer in sorted({layer for name in pairs if (layer := layer_of(name)) is not None}):
        for fusion in _fusions(layer, base):
            if fusion.is_fused:
                present = {
                    part: fitted[part]
                    for part, rows in fusion.parts
                    if part in fitted and (part != fusion.whole or _outputs(fitted[part]) == rows)
                }
                if present and fusion.whole not in fitted.keys() - present.keys():
                    for part in present:
                        del fitted[part]
                    fitted[fusion.whole] = _join(fusion, present)
                    changes[", ".join(present)] = (fusion.whole,)
            elif fusion.whole in fitted and _outputs(fitted[fusion.whole]) == fusion.total:
                whole = fitted.pop(fusion.whole)
                start = 0
                for part, rows in fusion.parts:
                    fitted[part] = whole.rows(slice(start, start + rows))
                    start += rows
                changes[fusion.whole] = tuple(part for part, _ in fusion.parts)
    return fitted | others, changes


def _fusions(layer: int, base: BaseModel) -> list[Fusion]:
    """Return what a layer of the base has fused or apart."""
    found = []
    qkv = module_name("attn_qkv", layer)
    parts = [module_name(f"attn_{letter}", layer) for letter in "qkv"]
    if sizes := _sizes(parts, base):
        found.append(Fusion(qkv, tuple(zip(parts, sizes, strict=True)), is_fused=False))
    elif qkv in base.tensors and (sizes := _attention_rows(base, layer, base.tensors[qkv].shape[0])):
        found.append(Fusion(qkv, tuple(zip(parts, sizes, strict=True)), is_fused=True))
    gate, up, down = (module_name(f"ffn_{part}", layer) for part in ("gate", "up", "down"))
    if sizes := _sizes([gate, up], base):
        found.append(Fusion(up, tuple(zip([gate, up], sizes, strict=True)), is_fused=False))
    elif (sizes := _sizes([up], base)) and down in base.tensors:
        inner = base.tensors[down].shape[-1]
        if sizes[0] == 2 * inner:
            found.append(Fusion(up, ((gate, inner), (up, inner)), is_fused=True))
    return found


def _sizes(names: Sequence[str], base: BaseModel) -> list[int] | None:
    """Return the rows of some matrices; None where the base lacks one."""
    infos = [base.tensors.get(name) for name in names]
    sizes = [info.shape[0] for info in infos if info is not None and len(info.shape) == 2]
    return sizes if len(sizes) == len(names) else None


def _attention_rows(base: BaseModel, layer: int, total: int) -> list[int] | None:
    """Return the rows of Q, K and V in a fused weight, by the heads that the metadata tells."""

    def number(key: str) -> int | None:
        value = base.metadata.get(f"{base.architecture}.{key}")
        if isinstance(value, np.ndarray | list):  # one count a layer
            value = value[layer] if layer < len(value) else None
        whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
        return int(value) if whole else None  # type: ignore[arg-type]

    heads = number("attention.head_count")
    heads_kv = number("attention.head_count_kv") or heads
    if not heads or not heads_kv or heads < 1 or heads_kv < 1 or total % (heads + 2 * heads_kv):
        return None
    size = total // (heads + 2 * heads_kv)
    return [heads * size, heads_kv * size, heads_kv * size]


def _outputs(pair: NamedPair) -> int:
    return int(pair.factors.shape[-2])


def _join(fusion: Fusion, present: Mapping[str, NamedPair]) -> NamedPair:
    """Put parts into one pair: the effective scalings go into B, and rows of missing parts are 0."""
    rank = sum(pair.factors.rank for pair in present.values())
    a = np.concatenate([pair.factors.a for pair in present.values()], axis=0)  # [R, in]
    b = np.zeros((fusion.total, rank), np.float32)
    magnitudes = []
    row = column = 0
    for part, rows in fusion.parts:
        if pair := present.get(part):
            if _outputs(pair) != rows:
                raise MismatchError(
                    f"it has {_outputs(pair)} rows, its part of {fusion.whole} has {rows}",
                    where=part,
                    remedy="Open the base it was trained on",
                )
            factors = pair.factors
            b[row : row + rows, column : column + factors.rank] = factors.b * np.float64(factors.scaling)
            column += factors.rank
            magnitudes.append(pair.magnitude)
        row += rows
    if all(magnitude is None for magnitude in magnitudes):
        return NamedPair(LoraFactors(a, b, alpha=rank))
    known = [magnitude for magnitude in magnitudes if magnitude is not None]
    if len(known) < len(fusion.parts):
        raise UnsupportedError(
            f"DoRA acts on some parts of {fusion.whole} and not on others",
            where=target_of(fusion.whole),
            remedy="Merge it into its base with the program that trained it",
        )
    return NamedPair(LoraFactors(a, b, alpha=rank), np.concatenate(known))
