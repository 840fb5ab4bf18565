"""How coarse a type is for a blend, told from a few rows before a merge."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import DeltaPart, RawTensors
from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.quantise import can_quantise, quantise
from studio.lora.combining import combined_delta
from studio.lora.kept_delta import KeptDelta, Sums

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel, CombinedDelta, ExportRequest, FloatArray

MODULES, ROWS = 6, 64
"""How much is looked at: so many modules all over the model, so many rows of each."""


def rounding_error(request: ExportRequest, modules: Sequence[str], type_name: str) -> float | None:
    """Return ||d - d*|| / ||d*|| of the median module, were merged weights rounded to the nearest.

    d* is the wanted delta, d the one that is left. Above 1 the steps of the type are coarser than the blend.
    None where nothing can be told, as of a type that cannot be written.
    """
    tensors = request.base.tensors
    known = [name for name in modules if name in tensors and can_quantise(type_name, tensors[name].shape[-1])]
    errors = []
    for number in range(min(MODULES, len(known))):
        module = known[number * len(known) // min(MODULES, len(known))]
        delta = combined_delta(request, module)
        if delta is None:
            continue
        wanted, base = _delta_rows(delta), _base_rows(request.base, module)
        stored = dequantise(quantise(base + wanted, type_name), GGML_TYPES_BY_NAME[type_name].number)
        errors.append(KeptDelta.of(module, type_name, Sums.of(stored - base, wanted)).error)
    return float(np.median(errors)) if errors else None


def _delta_rows(delta: CombinedDelta) -> FloatArray:
    """Return the first rows of a delta, of its first expert where it has several: ``[rows, in]``."""
    if not isinstance(delta, DeltaPart):
        return delta.reshape(-1, delta.shape[-1])[:ROWS]
    a, b = (delta.a, delta.b) if delta.a.ndim == 2 else (delta.a[0], delta.b[0])
    return np.asarray((b[:ROWS] * np.float32(delta.scale)) @ a, dtype=np.float32)


def _base_rows(base: BaseModel, module: str) -> FloatArray:
    info = base.tensors[module]
    if not isinstance(base, RawTensors):
        return base.dense(module).reshape(-1, info.shape[-1])[:ROWS]
    raw = base.raw(module)
    rows = np.ascontiguousarray(raw.reshape(-1, raw.shape[-1])[:ROWS])
    return dequantise(rows, GGML_TYPES_BY_NAME[info.type_name].number)
