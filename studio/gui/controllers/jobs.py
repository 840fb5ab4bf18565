"""Runs jobs for the desk: shows them in the jobs panel and brings their outcome back to the GUI thread."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary, WeakSet

from PySide6.QtCore import QObject, QTimer, Signal

from studio.gui.jobs_panel import JobStatus
from studio.jobs.runner import JobRunner

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.contracts import Work
    from studio.errors import StudioError
    from studio.gui import jobs_panel
    from studio.gui.bridge import Bridge
    from studio.gui.notices import Notices
    from studio.jobs.job import Job, JobState

_STATES: dict[JobState, jobs_panel.JobState] = {
    "queued": "waiting",
    "running": "running",
    "done": "done",
    "failed": "failed",
    "cancelled": "cancelled",
}


LISTED_MS = 500
"""How long work that nobody asked for may take unlisted, in milliseconds."""


class JobsController(QObject):
    """Starts work, and calls back with its result in the GUI thread."""

    progressed = Signal(object)
    """(Job): it came further, or ended."""
    idle = Signal()
    """Emitted when the last job ended."""

    def __init__(
        self, panel: jobs_panel.JobsPanel, bridge: Bridge, notices: Notices, parent: QObject
    ) -> None:
        super().__init__(parent)
        self._panel = panel
        self._notices = notices
        self._runner = JobRunner()
        self._count = 0
        self._keys: WeakKeyDictionary[Job, str] = WeakKeyDictionary()
        self._then: dict[Job, Callable[[Any], object]] = {}
        self._complaints: WeakKeyDictionary[Job, Callable[[StudioError], object]] = WeakKeyDictionary()
        self._ends: WeakKeyDictionary[Job, Callable[[], object]] = WeakKeyDictionary()
        self._asides: WeakSet[Job] = WeakSet()
        self._unlisted: WeakSet[Job] = WeakSet()
        self._delivered: WeakSet[Job] = WeakSet()
        self._failed: dict[str, Job] = {}
        bridge.newest(self._runner.changed, self._show, key=lambda job: job)
        panel.cancel_requested.connect(self._cancel)
        panel.report_requested.connect(self._report)

    def run(
        self,
        title: str,
        work: Work,
        then: Callable[[Any], object],
        *,
        aside: bool = False,
        long: bool = False,
        failed: Callable[[StudioError], object] | None = None,
        ended: Callable[[], object] | None = None,
    ) -> Job:
        """Submit work; `then` is called with its result. A failure is shown and logged.

        Parameters
        ----------
        title
            What the jobs panel calls it.
        work
            The generator to run on a worker thread.
        then
            Called in the GUI thread, only if the work ended well.
        aside
            Nobody asked for it, such as norms for the heatmap: closing the desk does not ask about it, and
            it is listed only while it takes long, or once it failed.
        long
            It takes minutes: it gets a thread of its own, and nothing else waits for it.
        failed
            Called in the GUI thread with the error, instead of reporting it.
        ended
            Called in the GUI thread once it ended in any way, after the other two.
        """
        job = self._runner.submit(title, work, long=long)
        if failed is not None:
            self._complaints[job] = failed
        if ended is not None:
            self._ends[job] = ended
        self._then[job] = then
        self._key(job)
        if aside:
            self._asides.add(job)
            self._unlisted.add(job)
            QTimer.singleShot(LISTED_MS, self, lambda: self._list_aside(job))
        return job

    @property
    def wanted(self) -> list[Job]:
        """Jobs under way that the user asked for."""
        return [job for job in self._runner.jobs if job not in self._asides]

    @property
    def busy(self) -> bool:
        """Whether any job is under way or its outcome not yet delivered."""
        return bool(self._then)

    def close(self) -> bool:
        """Cancel all jobs and wait for their threads; say whether they ended in time."""
        self._then.clear()
        self._ends.clear()
        return self._runner.join()

    def _show(self, job: Job) -> None:
        """Bring a job's line up to date, and deliver its outcome once it has one."""
        key = self._key(job)
        progress = job.progress
        share = progress.done / progress.total if progress.total > 0 else None
        message = progress.message if job.state == "running" else str(job.error or "")
        if job in self._asides and job.state in ("done", "cancelled"):
            self._panel.drop_job(key)
        elif job not in self._unlisted or job.state == "failed":
            self._panel.set_job(
                JobStatus(key, job.title, _STATES[job.state], share, job.eta_seconds, message)
            )
        self.progressed.emit(job)
        if job.state not in ("done", "failed", "cancelled") or job in self._delivered:
            return  # a notice of progress may arrive after the job ended, and show that already
        self._delivered.add(job)
        then = self._then.pop(job, None)
        if job.state == "failed" and job.error is not None:
            self._failed[key] = job
            complain = self._complaints.get(job)
            if complain is None:
                self._notices.error(job.title, job.error)
            else:
                complain(job.error)
        elif job.state == "done" and then is not None:
            then(job.result)
        if job in self._ends:
            self._ends.pop(job)()
        if not self._then:
            self.idle.emit()

    def _list_aside(self, job: Job) -> None:
        if not job.finished:
            self._unlisted.discard(job)
            self._show(job)

    def _key(self, job: Job) -> str:
        if job not in self._keys:
            self._count += 1
            self._keys[job] = str(self._count)
        return self._keys[job]

    def _cancel(self, key: str) -> None:
        for job, known in list(self._keys.items()):
            if known == key:
                job.cancel()

    def _report(self, key: str) -> None:
        job = self._failed.get(key)
        if job is not None and job.error is not None:
            self._notices.report(job.title, job.error)
