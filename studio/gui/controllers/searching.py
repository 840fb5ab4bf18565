"""Finding the blend: searches in a worker, moves the sliders in one step, and tells what that brought."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.contracts import EVEN
from studio.gui.search_dialog import SearchDialog
from studio.jobs.searching import search_blend
from studio.learning.searches import SearchOptions, SearchProgress, rounded

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import BaseModel, Example, LearningEngine, MixerState, Work
    from studio.errors import StudioError
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.controllers.wanted import WantedController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.job import Job
    from studio.learning.searches import FoundBlend
    from studio.session.session import Session


class SearchingController(QObject):
    """Keeps one window, and one search at a time."""

    def __init__(
        self,
        session: Session,
        jobs: JobsController,
        wanted: WantedController,
        window: MainWindow,
        notices: Notices,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._jobs = jobs
        self._wanted = wanted
        self._window = window
        self._notices = notices
        self._job: Job | None = None
        self._base: BaseModel | None = None
        self.found: FoundBlend | None = None
        """What the last search brought."""
        self.dialog = SearchDialog(SearchOptions, window)
        self.dialog.requested.connect(self.search)
        self.dialog.stop_requested.connect(self.stop)
        window.commands.find_blend.triggered.connect(self.open)
        jobs.progressed.connect(self._follow_job)
        session.stack.changed.connect(self._show_obstacle)
        session.base_changed.connect(self._follow_base)
        wanted.edited_in(self.dialog.editor)
        self._show_obstacle()

    def open(self) -> None:
        """Show the window."""
        self._wanted.show_in(self.dialog.editor)
        self.dialog.show()
        self.dialog.activateWindow()
        self.dialog.editor.text.setFocus()

    def search(self) -> None:
        """Look for the blend that writes the examples best."""
        session, options = self._session, self.dialog.options
        base, tokenizer = session.base, session.tokenizer
        if base is None or tokenizer is None or self._job is not None:
            return
        adapters, start = session.stack.by_key, session.stack.state

        def measured(engine: LearningEngine, examples: Sequence[Example]) -> Work:
            return search_blend(engine, examples, adapters, start, options)

        self._base = base
        self.dialog.set_running(True)
        self.dialog.set_facts([])
        self.dialog.set_progress(0, options.steps, [])
        self._job = self._jobs.run(
            "Find the blend",
            self._wanted.work(base, tokenizer, measured),
            self._take,
            long=True,
            failed=self._refuse,
            ended=self._end,
        )

    def stop(self) -> None:
        """End the search; the best blend so far is taken."""
        if self._job is not None:
            self._job.cancel()

    def _follow_job(self, job: Job) -> None:
        progress = job.progress
        if job is self._job and isinstance(progress, SearchProgress):
            history = () if progress.best is None else progress.best.history
            self.dialog.set_progress(progress.done, progress.total, history)

    def _take(self, found: FoundBlend) -> None:
        """Move the sliders, as one step to undo, and say what that brought."""
        if self._base is not self._session.base:
            return
        self.found = found
        stack, before = self._session.stack, self._session.stack.state
        found_channels = {channel.key: channel for channel in rounded(found.state).channels}
        stack.state = replace(
            before,
            channels=tuple(
                replace(channel, scale=its.scale, gains=its.gains)
                if (its := found_channels.get(channel.key)) is not None
                else channel
                for channel in before.channels
            ),
        )
        self.dialog.set_progress(len(found.history), len(found.history), found.history)
        self.dialog.set_facts(search_facts(found, before, stack.state))
        change = f"{found.before.mean:.3f} to {found.after.mean:.3f} nats a token"
        self._notices.info(f"Found a blend: the loss on the examples goes from {change}. Undo brings it back")

    def _refuse(self, error: StudioError) -> None:
        self.dialog.set_facts([], str(error))

    def _end(self) -> None:
        """Take the best of a search that was stopped."""
        job, self._job = self._job, None
        progress = None if job is None else job.progress
        if job is not None and job.state == "cancelled" and isinstance(progress, SearchProgress):
            if progress.best is not None:
                self._take(progress.best)
        self.dialog.set_running(False)

    def _follow_base(self) -> None:
        if self._base is not self._session.base:
            self.stop()
        self._show_obstacle()

    def _show_obstacle(self) -> None:
        """Say why there is nothing to find: no text can be measured, or nothing is heard."""
        session, stack = self._session, self._session.stack
        reason = ""
        if session.base is None or session.tokenizer is None:
            reason = "Open a base model that takes text first"
        elif not any(stack.state.audible(channel) for channel in stack.state.channels):
            reason = "Add an adapter first, or unmute one"
        self.dialog.set_obstacle(reason)
        self._window.commands.find_blend.setEnabled(not stack.is_empty)


def search_facts(found: FoundBlend, before: MixerState, after: MixerState) -> list[tuple[str, str]]:
    """Return what a search brought as (name, text): the loss, and where each slider went."""
    losses = found.before.mean, found.after.mean
    perplexities = [math.exp(min(loss, 700.0)) for loss in losses]
    facts = [
        ("Loss", f"{losses[0]:.3f} → {losses[1]:.3f} nats a token"),
        ("Perplexity", f"{perplexities[0]:.1f} → {perplexities[1]:.1f}"),
    ]
    for old, new in zip(before.channels, after.channels, strict=True):
        if old != new:
            gains = "" if new.gains == EVEN else " × gains"
            facts.append((new.key, f"{old.scale:.2f} → {new.scale:.2f}{gains}"))
    return facts
