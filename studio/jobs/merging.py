"""Merging a blend into its base as one GGUF file: tensor by tensor, on all cores, in bounded memory."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import Prediction, Progress
from studio.errors import EngineError, MismatchError, StudioError, UnsupportedError
from studio.formats.disk_space import require_space
from studio.formats.gguf_header import DEFAULT_ALIGNMENT
from studio.formats.gguf_stream import TensorSlot, streaming_gguf
from studio.formats.imatrix import read_imatrix
from studio.formats.quantise import FLOAT_TYPES
from studio.jobs.calibrating import own_windows, second_moments, text_windows
from studio.jobs.merge_metadata import merged_values
from studio.jobs.merge_options import Merged
from studio.jobs.parallel import in_parallel
from studio.lora.budget import candidates, promote
from studio.lora.calibration import PendingCalibration
from studio.lora.exported import exported_modules
from studio.lora.kept_delta import KeptDelta, Sums
from studio.lora.merge_plan import KEEP, plan_tensors, without_grid
from studio.lora.merging import MergedRows, PendingDelta, merge_rows, raw_model
from studio.lora.provenance import files_in_use
from studio.lora.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from studio.contracts import Cancelled, ExportRequest, FloatArray, RawModel, Work
    from studio.jobs.merge_options import MergeOptions
    from studio.jobs.parallel import Task
    from studio.lora.merging import TensorPlan
    from studio.lora.storing import RoundingChoice

MOMENT_BYTES = 1 << 30
"""How much memory second moments take at once; the texts are read again for the modules that are left."""


LARGEST_SELF_CALIBRATED = 400_000_000
"""Up to how many weights a model is calibrated on its own texts without being asked: beyond that it takes
many minutes on a CPU."""

SIZE_RESERVE = 1 << 13
"""What the header may take more than the base's, in bytes."""


def merge(request: ExportRequest, path: Path, options: MergeOptions) -> Work:
    """Merge a blend into its base and return a `Merged`; closing the work early leaves the target as it was.

    Raises
    ------
    StudioError
        Nothing is audible, an adapter does not fit the base, or a text or matrix cannot be read.
    SaveError
        A merged weight does not fit its type, the disk lacks the room, or the file cannot be written.
    """
    work = _Merge(request, path, options)
    return (yield from work.run())


def predict_merge(request: ExportRequest, modules: Collection[str], options: MergeOptions) -> Prediction:
    """Tell how large a merged file will be, and in which type most of the changed weights are.

    Promotions inside a budget are not foretold, only that they may fill it.
    """
    base = request.base
    plans = plan_tensors(base, modules, options.type, has_imatrix=bool(options.imatrix))
    slots = {name: TensorSlot(plan.shape, plan.storage.type_name) for name, plan in plans.items()}
    header = base.file_size - sum(info.nbytes for info in base.tensors.values())
    nbytes = header + sum(slot.nbytes for slot in slots.values())
    if options.budget > 1:
        nbytes = max(nbytes, round(options.budget * base.file_size))
    sizes = Counter[str]()
    for name in modules:
        sizes[slots[name].type_name] += slots[name].nbytes
    most = max(sizes, key=lambda type_name: sizes[type_name], default=base.file_type)
    return Prediction(nbytes, most, merged=True)


class _Merge:
    """One merge: its plan, and what is measured on the way."""

    def __init__(self, request: ExportRequest, path: Path, options: MergeOptions) -> None:
        self.request = request
        self.path = path
        self.options = options
        self.base: RawModel = raw_model(request)
        self.modules = exported_modules(request, tied_output=True, full_rank=True)
        self.imatrix: Mapping[str, FloatArray] = (
            read_imatrix(Path(options.imatrix)) if options.imatrix else {}
        )
        self.notes: list[str] = []
        self.as_heard: set[str] = set()
        self.windows: Sequence[Sequence[int]] = ()
        self.rounding: RoundingChoice = "nearest"
        self.plans = self._plan(self._wanted_rounding())
        rounded: list[str] = without_grid(self.plans) if self.rounding != "nearest" else []
        for type_name in rounded:
            self.notes.append(f"{type_name} has no even grid: its weights were rounded to the nearest.")

    def run(self) -> Work:
        """Calibrate, choose finer types, and write."""
        base = self.request.base
        written = sum(slot.nbytes for slot in self._slots().values())
        require_space(self.path, max(written, round(base.file_size * self.options.budget)))
        yield from self._calibrate()
        if self.options.budget > 1:
            yield from self._spend()
        if self.imatrix and not any(plan.quantised_anew for plan in self.plans.values()):
            self.notes.append("No weight gets a new grid: the importance matrix was not needed.")
        values = merged_values(
            self.request,
            self.plans,
            self.path,
            type_name=self.options.type,
            rounding=self.rounding,
            seed=self.options.seed,
        )
        alignment = base.metadata.get("general.alignment", DEFAULT_ALIGNMENT)
        assert isinstance(alignment, int)  # the reader refuses any other
        slots = self._slots()
        total = sum(len(list(plan.pieces())) for plan in self.plans.values())
        done = 0
        sums: dict[str, Sums] = {}
        protected = files_in_use(self.request)
        with streaming_gguf(self.path, values, slots, alignment, protected) as stream:
            for batch in self._batches():
                moments = yield from self._moments(batch)
                with closing(in_parallel(self._tasks(batch, moments))) as merged:
                    for rows in merged:
                        if rows is not None:
                            name = rows.plan.name
                            stream.put(name, rows.first, rows.data)
                            sums[name] = rows.sums if rows.as_heard else sums.get(name, Sums()) + rows.sums
                            self.as_heard |= {name} if rows.as_heard else set()
                            done += 1
                        yield Progress(done, total, "Merging" if rows is None else f"Merging {name}")
            yield from stream.verify()
        kept = tuple(
            KeptDelta.of(name, plan.storage.type_name, sums[name], as_heard=name in self.as_heard)
            for name, plan in self.plans.items()
            if plan.changed and plan.storage.type_name not in FLOAT_TYPES
        )
        return Merged(self.path, (*self.notes, verdict(kept)), kept, self.rounding)

    def _slots(self) -> dict[str, TensorSlot]:
        return {name: TensorSlot(plan.shape, plan.storage.type_name) for name, plan in self.plans.items()}

    def _wanted_rounding(self) -> RoundingChoice:
        """Return how to round where there is something to choose, as asked for or as measures best."""
        asked = self.options.rounding
        if self.options.calibration and asked not in ("auto", "calibrated"):
            raise StudioError(
                f"{asked} rounding reads no calibration text",
                where="calibration",
                remedy="Leave it out, or choose calibrated rounding",
            )
        if asked != "auto":
            return asked
        if self.options.calibration:
            return "calibrated"
        if self.options.type != KEEP:
            return "nearest"
        parameters = sum(
            int(np.prod(info.shape, dtype=object)) for info in self.request.base.tensors.values()
        )
        return "calibrated" if parameters <= LARGEST_SELF_CALIBRATED else "unbiased"

    def _plan(self, rounding: RoundingChoice) -> dict[str, TensorPlan]:
        self.rounding = rounding
        return plan_tensors(
            self.request.base,
            self.modules,
            self.options.type,
            rounding,
            has_imatrix=bool(self.imatrix),
        )

    def _calibrate(self) -> Work:
        """Find what to calibrate on; where the base does not run, rounding is unbiased unless asked for."""
        if not any(plan.storage.rounding == "calibrated" for plan in self.plans.values()):
            if self.options.calibration:
                self.notes.append("No weight is rounded that could be calibrated: the text was not read.")
            return
        try:
            if self.options.calibration:
                self.windows = text_windows(self.request.base, Path(self.options.calibration))
            else:
                self.windows = yield from own_windows(self.request, self.options.seed)
        except (UnsupportedError, EngineError) as error:
            if self.options.rounding == "calibrated" or self.options.calibration:
                raise
            self.notes.append(f"It was not calibrated, since the base does not run: {error.message}.")
            self.plans = self._plan("unbiased")

    def _spend(self) -> Work:
        """Give the modules whose delta suffers most a finer type, inside the budget."""
        changed = [plan for plan in self.plans.values() if plan.changed]
        found = {}
        for done, plan in enumerate(changed):
            yield Progress(done, len(changed), f"Measuring {plan.name}")
            delta = PendingDelta(self.request, plan.name)
            found[plan.name] = candidates(self.base, plan, delta, self.rounding)
        old = sum(info.nbytes for info in self.request.base.tensors.values())
        grown = sum(slot.nbytes for slot in self._slots().values()) - old
        extra = int(self.request.base.file_size * (self.options.budget - 1)) - grown - SIZE_RESERVE
        extra -= 32 * len(self.plans)  # padding
        for name, storage in promote(found, extra).items():
            self.plans[name] = replace(self.plans[name], storage=storage)

    def _batches(self) -> Iterator[list[TensorPlan]]:
        """Yield all tensors in runs whose second moments fit in memory together."""
        batch: list[TensorPlan] = []
        taken = 0
        for plan in self.plans.values():
            if plan.storage.rounding == "calibrated":
                taken += 4 * plan.shape[-1] ** 2
                if taken > MOMENT_BYTES and batch:
                    yield batch
                    batch, taken = [], 4 * plan.shape[-1] ** 2
            batch.append(plan)
        yield batch

    def _moments(self, batch: Sequence[TensorPlan]) -> Work:
        """Return the second moments that a batch needs, by module."""
        modules = [plan.name for plan in batch if plan.storage.rounding == "calibrated"]
        if not modules:
            return {}
        return (yield from second_moments(self.request, self.windows, modules))

    def _tasks(
        self, batch: Sequence[TensorPlan], moments: Mapping[str, FloatArray]
    ) -> Iterator[Task[MergedRows]]:
        for plan in batch:
            delta = PendingDelta(self.request, plan.name) if plan.changed else None
            calibration = None
            moment = moments.get(plan.name)
            if plan.storage.rounding == "calibrated" and delta is not None and moment is not None:
                calibration = PendingCalibration(self.base, plan, delta, moment)
            for rows in plan.pieces():
                yield partial(self._merge_rows, plan, delta, rows, calibration)

    def _merge_rows(
        self,
        plan: TensorPlan,
        delta: PendingDelta | None,
        rows: slice,
        calibration: PendingCalibration | None,
        cancelled: Cancelled,
    ) -> MergedRows:
        return merge_rows(
            self.base,
            plan,
            delta,
            rows,
            seed=self.options.seed,
            importance=self._importance(plan, rows),
            calibration=calibration,
            cancelled=cancelled,
        )

    def _importance(self, plan: TensorPlan, rows: slice) -> FloatArray | None:
        values = self.imatrix.get(plan.name)
        if values is None:
            return None
        width = plan.shape[-1]
        experts = int(np.prod(plan.shape[:-2], dtype=np.int64))
        if values.size != experts * width:
            raise MismatchError(
                f"the importance matrix has {values.size:,} inputs for it, and it has {experts * width:,}",
                path=Path(self.options.imatrix),
                where=plan.name,
                remedy="Use the matrix of this model",
            )
        expert = rows.start // plan.shape[-2]
        return values[expert * width : (expert + 1) * width]
