"""What an export will be, told before it is written: its size, its ranks, its error, and the room for it."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from studio.contracts import PredictingExporter, Progress
from studio.formats.quantise import FLOAT_TYPES
from studio.lora.merge_outlook import rounding_error
from studio.lora.predicting import predict_factors
from studio.lora.verdict import STACK_INSTEAD

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from studio.contracts import Exporter, ExportRequest, Prediction
    from studio.lora.algebra import RankLimit
    from studio.lora.blend_measure import BlendMeasure

LARGE_ERROR = 0.1
"""From which share of the blend's norm on a cut is warned of."""

COARSE = 0.5
"""From which error of rounded deltas on a type is too coarse for a blend."""


@dataclass(frozen=True)
class Preview:
    """What is foretold of an export.

    Attributes
    ----------
    ranks
        The lowest and the highest rank of its modules.
    modules
        How many modules it changes.
    prediction
        Its size, type and kind; None where its exporter does not tell.
    error
        ||written - blend||_F / ||blend||_F of an adapter; None where it cannot be told.
    free
        Bytes free on the target's disk; None where nobody can tell.
    advice
        What to think of it, in words; empty where all is well.
    """

    ranks: tuple[int, int]
    modules: int
    prediction: Prediction | None
    error: float | None
    free: int | None
    advice: str

    @property
    def fits(self) -> bool:
        """Whether the disk has room for it, as far as is known."""
        return self.prediction is None or self.free is None or self.prediction.nbytes < self.free


def preview(
    request: ExportRequest,
    exporter: Exporter,
    options: Any,
    path: Path,
    measure: BlendMeasure,
    limit: RankLimit,
) -> Generator[Progress, None, Preview]:
    """Foretell one export of a blend that was measured.

    Parameters
    ----------
    request
        The blend.
    exporter, options, path
        What would write it, how, and where to.
    measure
        What `measure_blend` found of it, uncut.
    limit
        What its modules are cut to.
    """
    yield Progress(0, 1, "Foretelling the export")
    ranks = measure.cut_ranks(limit)
    prediction = None
    if isinstance(exporter, PredictingExporter):
        prediction = exporter.predict(request, ranks, options)
    error = None
    if prediction is not None and (not prediction.merged or limit):
        error = measure.error(limit, "F32" if prediction.merged else prediction.type_name)
    return Preview(
        ranks=(min(ranks.values(), default=0), max(ranks.values(), default=0)),
        modules=len(ranks),
        prediction=prediction,
        error=error,
        free=_free_bytes(path),
        advice=_advice(request, prediction, measure, limit, error),
    )


def _advice(
    request: ExportRequest,
    prediction: Prediction | None,
    measure: BlendMeasure,
    limit: RankLimit,
    error: float | None,
) -> str:
    if prediction is None:
        return ""
    if prediction.merged:
        return _merge_advice(request, prediction, measure)
    if not prediction.merged and measure.dense and not limit:
        name = request.combination.method.name if request.combination else "an adapter in the blend"
        return f"The delta of {name} is of full rank, which no adapter holds: cut it to a rank, or merge it."
    if error is not None and error > LARGE_ERROR:
        return f"This leaves out {error:.0%} of the blend. A higher rank keeps more."
    return ""


def _merge_advice(request: ExportRequest, prediction: Prediction, measure: BlendMeasure) -> str:
    """Say whether the steps of a quantised type are too coarse for the blend."""
    if prediction.type_name in FLOAT_TYPES:
        return ""
    error = rounding_error(request, list(measure.ranks), prediction.type_name)
    if error is None or error < COARSE:
        return ""
    size = predict_factors(request, measure.ranks, "F32").nbytes / 1e6
    return (
        f"{prediction.type_name} is coarse for this blend: rounded to the nearest, the delta of the median "
        f"module would be off by {error:.0%} of itself. {STACK_INSTEAD}; it takes {size:.1f} MB. For one "
        "file, keep calibrated rounding or a larger budget, and verify it."
    )


def _free_bytes(path: Path) -> int | None:
    try:
        return shutil.disk_usage(path.expanduser().resolve().parent).free
    except OSError:
        return None
