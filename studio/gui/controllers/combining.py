"""The combine dialog: the blend by a method is measured, foretold, put on the stack or exported."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PySide6.QtCore import QObject, Qt

from studio.contracts import Combination, ExportRequest
from studio.gui.combine_dialog import CombineDialog
from studio.gui.controllers.exports import blend_facts
from studio.gui.controllers.forecast import preview_facts
from studio.gui.frame import OncePerFrame
from studio.jobs.combining import combine_adapter
from studio.jobs.exporting import STACKED
from studio.jobs.previewing import preview
from studio.lora.algebra import RankLimit
from studio.lora.blend_measure import measure_blend
from studio.lora.limiting import limited

if TYPE_CHECKING:
    from studio.contracts import Plugins
    from studio.errors import StudioError
    from studio.gui.controllers.exports import ExportsController
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.job import Job
    from studio.jobs.previewing import Preview
    from studio.lora.adapter import Adapter
    from studio.lora.blend_measure import BlendMeasure
    from studio.session.session import Session

SUM = "cat"
"""The method that is chosen at first: the exact sum."""


class CombiningController(QObject):
    """Opens the dialog on the blend as it stands then."""

    def __init__(
        self,
        session: Session,
        jobs: JobsController,
        exports: ExportsController,
        plugins: Plugins,
        window: MainWindow,
        notices: Notices,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._jobs = jobs
        self._exports = exports
        self._plugins = plugins
        self._window = window
        self._notices = notices
        window.commands.combine.triggered.connect(self.open)

    def open(self) -> None:
        """Open the dialog."""
        base, stack = self._session.base, self._session.stack
        if base is None or not self._plugins.combine_methods:
            self._notices.warn("Open a base model first" if base is None else "No plugin offers a method")
            return
        request = ExportRequest(base, dict(stack.by_key), stack.blend)
        dialog = CombineDialog(
            self._plugins.combine_methods, blend_facts(self._session), self._window, preferred=SUM
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        choice = _Choice(request, dialog, self._jobs, self._plugins)
        dialog.add_requested.connect(lambda: self._make(choice))
        dialog.export_requested.connect(lambda: self._export(choice))
        dialog.open()

    def _export(self, choice: _Choice) -> None:
        combination, limit = choice.combination, choice.limit
        choice.dialog.accept()
        self._exports.ask(combination, limit)

    def _make(self, choice: _Choice) -> None:
        request, method = choice.cut_request, choice.combination.method.name
        choice.dialog.accept()
        names = [request.adapters[channel.key].name for channel in request.state.channels]
        self._jobs.run(
            f"Combine by {method}",
            combine_adapter(request, f"{method} of {' + '.join(names)}"),
            lambda adapter: self._take(adapter, request),
        )

    def _take(self, adapter: Adapter, request: ExportRequest) -> None:
        """Put the adapter on the stack in the place of what it was made of: those are muted."""
        session = self._session
        stack = session.stack
        if request.base is not session.base:
            return
        with session.history.step():
            silent = [replace(channel, muted=True, soloed=False) for channel in stack.state.channels]
            stack.state = replace(stack.state, channels=tuple(silent))
            # The master is in what was combined, and would count twice.
            stack.push(adapter, 1 / stack.state.master if stack.state.master else 1.0)
        self._notices.info(
            f"Added {adapter.name}; the channels it was made of are muted. "
            "It is in no file, nor in the session's, until it is exported"
        )


class _Choice(QObject):
    """What a dialog is set to, and what is known of it. It lives as long as the dialog."""

    def __init__(
        self, request: ExportRequest, dialog: CombineDialog, jobs: JobsController, plugins: Plugins
    ) -> None:
        super().__init__(dialog)
        self.dialog = dialog
        self._request = request
        self._jobs = jobs
        self._exporter = next((one for one in plugins.exporters if one.name == STACKED), None)
        self._measure: BlendMeasure | None = None
        self._newest: Job | None = None
        self._measuring = OncePerFrame(self._look, self)
        self._foretelling = OncePerFrame(self._foretell, self)
        dialog.method_changed.connect(self._forget)
        dialog.limit_changed.connect(self._foretelling.request)
        dialog.finished.connect(self._stop)
        self._forget()

    @property
    def combination(self) -> Combination:
        """The method and its options, uncut."""
        return Combination(self.dialog.method, self.dialog.options)

    @property
    def limit(self) -> RankLimit:
        """What it is cut to."""
        return RankLimit(self.dialog.rank, self.dialog.energy)

    @property
    def cut_request(self) -> ExportRequest:
        """The blend by the method, cut to the limit."""
        return replace(self._request, combination=limited(self.combination, self.limit))

    def _forget(self) -> None:
        """Begin anew for another method."""
        self._measure = None
        self.dialog.set_curve(np.zeros(0))
        self.dialog.set_result([("Size", "measuring …")], ready=False)
        self._measuring.request()

    def _look(self) -> None:
        self._cancel()
        work = measure_blend(replace(self._request, combination=self.combination))
        job = self._newest = self._jobs.run(
            f"Measure {self.dialog.method.name}",
            work,
            lambda measure: self._take_measure(job, measure),
            aside=True,
            failed=lambda error: self._refuse(job, error),
        )

    def _take_measure(self, job: Job, measure: BlendMeasure) -> None:
        if job is self._newest:
            self._measure = measure
            self.dialog.set_curve(measure.curve)
            self._foretell()

    def _foretell(self) -> None:
        if self._measure is None or self._exporter is None:
            return
        self._cancel()
        options = self._exporter.Options()
        request = replace(self._request, combination=self.combination)
        work = preview(request, self._exporter, options, Path.home() / "x", self._measure, self.limit)
        job = self._newest = self._jobs.run(
            "Foretell the cut",
            work,
            lambda found: self._show(job, found),
            aside=True,
            failed=lambda error: self._refuse(job, error),
        )

    def _show(self, job: Job, found: Preview) -> None:
        if job is self._newest and self._measure is not None:
            ready = not self._measure.dense or bool(self.limit)
            self.dialog.set_result(preview_facts(found), found.advice, ready=ready)

    def _refuse(self, job: Job, error: StudioError) -> None:
        if job is self._newest:
            self.dialog.set_result([], str(error), ready=False)

    def _cancel(self) -> None:
        if self._newest is not None:
            self._newest.cancel()

    def _stop(self) -> None:
        """Forget the dialog, which is about to go."""
        self._measuring.stop()
        self._foretelling.stop()
        self._cancel()
        self._newest = None
