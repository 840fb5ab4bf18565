"""The sensitivity of the loss to every scale and gain: measured when the heatmap is asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.jobs.searching import measure_sensitivity

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import Example, LearningEngine, Work
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.controllers.norms import NormsController
    from studio.gui.controllers.wanted import WantedController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.job import Job
    from studio.learning.sensitivity import Sensitivity
    from studio.session.session import Session

NOTHING_TO_MEASURE = "Write a prompt first, or examples with Ctrl+F"
STALE = "of an earlier blend or prompt"


class SensitivityController(QObject):
    """Measures slopes on the examples, or on the prompt where there are none. The newest request counts."""

    def __init__(
        self,
        session: Session,
        jobs: JobsController,
        norms: NormsController,
        wanted: WantedController,
        window: MainWindow,
        notices: Notices,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._jobs = jobs
        self._norms = norms
        self._wanted = wanted
        self._window = window
        self._notices = notices
        self._found: Sensitivity | None = None
        self._outdated = False  # by other examples, another prompt or another base
        self._job: Job | None = None
        norms.mode_changed.connect(self._follow_mode)
        window.heatmap.refresh_requested.connect(self.measure)
        window.commands.sensitivity.triggered.connect(self.ask)
        wanted.changed.connect(self._outdate)
        session.base_changed.connect(self._forget)
        session.stack.changed.connect(self._show_note)
        self._show_note()

    def ask(self) -> None:
        """Show the heatmap's slopes, measured anew."""
        self._found = None
        self._window.docks["heatmap"].show()
        self._window.docks["heatmap"].raise_()
        self._norms.ask_slopes()

    def measure(self) -> None:
        """Measure the slopes at the blend as it stands."""
        session = self._session
        base, tokenizer, stack = session.base, session.tokenizer, session.stack
        if base is None or tokenizer is None or not self._wanted.wanted:
            self._notices.warn(NOTHING_TO_MEASURE)
            return
        adapters, state = stack.by_key, stack.state

        def measured(engine: LearningEngine, examples: Sequence[Example]) -> Work:
            return measure_sensitivity(engine, examples, adapters, state)

        if self._job is not None:
            self._job.cancel()
        self._outdated = False
        job = self._job = self._jobs.run(
            "Measure the sensitivity",
            self._wanted.work(base, tokenizer, measured),
            lambda found: self._take(job, found),
            aside=True,
            long=True,
            ended=lambda: self._end(job),
        )
        self._show_note()

    def _take(self, job: Job, found: Sensitivity) -> None:
        if job is self._job:
            self._found = found
            self._norms.show_slopes(found)

    def _end(self, job: Job) -> None:
        if job is self._job:
            self._job = None
        self._show_note()

    def _follow_mode(self) -> None:
        if self._norms.shows_slopes and self._found is None:
            self.measure()
        self._show_note()

    def _outdate(self) -> None:
        self._outdated = True
        self._show_note()

    def _forget(self) -> None:
        if self._job is not None:
            self._job.cancel()
        self._found = self._job = None
        self._norms.show_slopes(None)

    def _show_note(self) -> None:
        """Say what is shown: of which loss, of another blend than this one, or nothing yet."""
        shown, note = self._norms.shows_slopes, ""
        if shown and self._job is not None:
            note = "measuring …"
        elif shown and self._found is not None:
            stale = self._outdated or self._found.state != self._session.stack.state
            note = STALE if stale else f"loss {self._found.loss.mean:.3f} nats a token"
        self._window.heatmap.set_refresh(shown, note)
