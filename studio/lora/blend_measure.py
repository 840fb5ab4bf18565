"""What is known of a blend before it is written: its ranks, its singular values, what rounding costs it."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import DeltaPart, Progress
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.gguf_writer import encode, stored_type
from studio.lora.algebra import cut_error, error_curve, singular_values
from studio.lora.combining import combined_delta
from studio.lora.exported import exported_modules

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping

    from studio.contracts import CombinedDelta, ExportRequest, FloatArray
    from studio.formats.gguf_writer import FloatType
    from studio.lora.algebra import RankLimit
    from studio.lora.algebra.singular import Doubles

ROUNDED: tuple[FloatType, ...] = ("F16", "BF16", "Q8_0")
"""The types of factors that lose something."""


@dataclass(frozen=True, eq=False)
class BlendMeasure:
    """What the deltas of a blend are like, module by module, as its method leaves them.

    Attributes
    ----------
    spectra
        All singular values of each module, float64 ``[K]`` or ``[E, K]``, descending.
    ranks
        The rank of each module's factors; for a dense delta the full rank of its weight.
    dense
        The modules whose delta is not in factors, so that no adapter holds it uncut.
    rounding
        By type, ||rounded - dW||_F / ||dW||_F over all modules in factors, were the factors stored in it.
    """

    spectra: Mapping[str, Doubles]
    ranks: Mapping[str, int]
    dense: frozenset[str] = frozenset()
    rounding: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def curve(self) -> Doubles:
        """The error of cutting all modules to rank 0, 1, 2 and so on: `studio.lora.algebra.error_curve`."""
        return error_curve(self.spectra.values())

    def cut_ranks(self, limit: RankLimit) -> dict[str, int]:
        """Return the rank of each module once it is cut to a limit."""
        if not limit:
            return dict(self.ranks)
        return {module: min(self.ranks[module], limit.of(values)) for module, values in self.spectra.items()}

    def error(self, limit: RankLimit, type_name: str = "F32") -> float:
        """Return ||written - dW||_F / ||dW||_F over all modules: the cut and the rounding, taken together."""
        cut = cut_error(self.spectra.values(), self.cut_ranks(limit).values()) if limit else 0.0
        return float(np.hypot(cut, self.rounding.get(type_name, 0.0)))


def measure_blend(request: ExportRequest) -> Generator[Progress, None, BlendMeasure]:
    """Measure what a request would export; one module's delta is in memory at a time.

    Raises
    ------
    StudioError
        Nothing is audible, or an adapter does not fit the base.
    """
    modules = exported_modules(request, tied_output=True, full_rank=True)
    spectra: dict[str, Doubles] = {}
    ranks: dict[str, int] = {}
    dense: set[str] = set()
    lost = dict.fromkeys(ROUNDED, 0.0)
    whole = 0.0
    for done, module in enumerate(modules):
        yield Progress(done, len(modules), f"Measuring {module}")
        delta = combined_delta(request, module)
        if delta is None:
            continue
        spectra[module] = singular_values(delta)
        ranks[module] = rank_of(delta)
        if not isinstance(delta, DeltaPart):
            dense.add(module)
            continue
        whole += float((spectra[module] ** 2).sum())
        for kind in ROUNDED:
            lost[kind] += rounding_loss(delta, kind)
    rounding: dict[str, float] = {}
    if whole:
        rounding = {kind: float(np.sqrt(loss / whole)) for kind, loss in lost.items()}
    return BlendMeasure(spectra, ranks, frozenset(dense), rounding)


def rank_of(delta: CombinedDelta) -> int:
    """Return the rank of a delta's factors, or the most that a dense one can have."""
    return int(delta.a.shape[-2]) if isinstance(delta, DeltaPart) else min(delta.shape[-2:])


def rounding_loss(delta: DeltaPart, kind: FloatType) -> float:
    """Return ||B' A' - B A||_F^2 for factors rounded to a type, the scale included.

    It is that of (B' - B) A' + B (A' - A), factors whose small core has the norm: nothing of the full shape
    is formed, and nothing nearly equal is subtracted. B is scaled first so that it is near 1, as exporters
    write it.
    """
    largest = float(np.abs(delta.b).max()) or 1.0
    a, b = delta.a, delta.b / np.float32(largest)
    rounded_a, rounded_b = _rounded(a, kind), _rounded(b, kind)
    left = np.concatenate([rounded_b - b, b], axis=-1).astype(np.float64)  # [out, 2 R]
    right = np.concatenate([rounded_a, rounded_a - a], axis=-2).astype(np.float64)  # [2 R, in]
    gram = left.swapaxes(-1, -2) @ left  # [2 R, 2 R]
    square = float(np.sum(gram * (right @ right.swapaxes(-1, -2))))
    return max(square, 0.0) * (delta.scale * largest) ** 2


def _rounded(values: FloatArray, kind: FloatType) -> FloatArray:
    stored = stored_type(values.shape, kind)
    data = encode(values, stored).view(np.uint8).reshape(*values.shape[:-1], -1)
    return dequantise(data, GGML_TYPES_BY_NAME[stored].number)
