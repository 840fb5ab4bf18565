"""What the export dialog tells beforehand: the blend is measured once, each choice is foretold anew."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.gui.frame import OncePerFrame
from studio.gui.sizes import size_text
from studio.jobs.previewing import preview
from studio.lora.algebra import RankLimit
from studio.lora.blend_measure import measure_blend

if TYPE_CHECKING:
    from studio.contracts import ExportRequest
    from studio.errors import StudioError
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.export_dialog import ExportDialog
    from studio.jobs.job import Job
    from studio.jobs.previewing import Preview
    from studio.lora.blend_measure import BlendMeasure


class Forecast(QObject):
    """Lives as long as its dialog; the newest choice counts."""

    def __init__(
        self, request: ExportRequest, energy: float, dialog: ExportDialog, jobs: JobsController
    ) -> None:
        super().__init__(dialog)
        self._request = request
        self._energy = energy
        self._dialog = dialog
        self._jobs = jobs
        self._measure: BlendMeasure | None = None
        self._newest: Job | None = None
        self._frame = OncePerFrame(self._foretell, self)
        dialog.changed.connect(self._frame.request)
        dialog.finished.connect(self._stop)
        dialog.set_preview([("Size", "measuring the blend …")])
        job = self._newest = jobs.run(
            "Measure the blend",
            measure_blend(request),
            lambda measure: self._take_measure(job, measure),
            aside=True,
            failed=lambda error: self._refuse(job, error),
        )

    def _take_measure(self, job: Job, measure: BlendMeasure) -> None:
        if job is self._newest:
            self._measure = measure
            self._foretell()

    def _foretell(self) -> None:
        if self._measure is None:
            return
        if self._newest is not None:
            self._newest.cancel()
        dialog = self._dialog
        work = preview(
            self._request,
            dialog.exporter,
            dialog.options,
            dialog.target,
            self._measure,
            RankLimit(dialog.rank, self._energy),
        )
        job = self._newest = self._jobs.run(
            "Foretell the export",
            work,
            lambda found: self._show(job, found),
            aside=True,
            failed=lambda error: self._refuse(job, error),
        )

    def _show(self, job: Job, found: Preview) -> None:
        if job is self._newest:
            self._dialog.set_preview(preview_facts(found), found.advice)

    def _refuse(self, job: Job, error: StudioError) -> None:
        if job is self._newest:
            self._dialog.set_preview([], str(error))

    def _stop(self) -> None:
        """Forget the dialog, which is about to go."""
        job, self._newest, self._measure = self._newest, None, None
        self._frame.stop()
        if job is not None:
            job.cancel()


def preview_facts(found: Preview) -> list[tuple[str, str]]:
    """Return what is foretold as (name, text)."""
    facts = []
    if found.prediction is not None:
        size = f"about {size_text(found.prediction.nbytes)}"
        if found.free is not None:
            room = "free on the disk" if found.fits else "free on the disk, which is too little"
            size += f"; {size_text(found.free)} {room}"
        facts.append(("Size", size))
    low, high = found.ranks
    merged = found.prediction is not None and found.prediction.merged
    rank = str(low) if low == high else f"{low} to {high}"
    facts.append(("Rank", f"{'a delta of rank ' if merged else ''}{rank} in each of {found.modules} modules"))
    if found.error is not None:
        error = f"{found.error:.2g}" if found.error < 0.001 else f"{found.error:.2%}"
        facts.append(("Error", "none: it is exact" if found.error == 0 else f"{error} of the blend's norm"))
    return facts
