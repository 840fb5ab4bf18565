"""The landscape: measured in a worker; dragging its point moves two faders, and they move the point."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.gui.frame import OncePerFrame
from studio.gui.landscape_dialog import LandscapeDialog
from studio.jobs.searching import scan_landscape

if TYPE_CHECKING:
    from collections.abc import Sequence

    from studio.contracts import ChannelState, Example, LearningEngine, MixerState, Work
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.controllers.wanted import WantedController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.job import Job
    from studio.learning.searches import Landscape
    from studio.session.session import Session

STALE = "the rest of the blend, or the examples, changed since: measure again"
HINT = "Measure the loss over the scales of two channels, then drag the point."


class LandscapeController(QObject):
    """Keeps one window true to the stack. One drag is one step of the history."""

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
        self._shown: tuple[Landscape, MixerState] | None = None
        self._outdated = False
        self.dialog = LandscapeDialog(window)
        view = self.dialog.view
        view.moved.connect(self._move)
        view.drag_started.connect(session.history.begin)
        view.drag_finished.connect(session.history.end)
        view.pointed.connect(self._show_readout)
        self.dialog.requested.connect(self.measure)
        self.dialog.stop_requested.connect(self.stop)
        self.dialog.channels_changed.connect(self._follow_channels)
        window.commands.landscape.triggered.connect(self.open)
        jobs.progressed.connect(self._follow_job)
        wanted.edited_in(self.dialog.editor)
        wanted.changed.connect(self._outdate)
        self._frame = OncePerFrame(self._follow, self)
        session.stack.changed.connect(self._frame.request)
        session.base_changed.connect(self._forget)
        self._follow()

    def open(self) -> None:
        """Show the window."""
        self._wanted.show_in(self.dialog.editor)
        self._follow()
        self.dialog.show()
        self.dialog.activateWindow()
        self.dialog.view.setFocus()

    def measure(self) -> None:
        """Measure the loss over the two channels that are chosen."""
        session, dialog = self._session, self.dialog
        base, tokenizer = session.base, session.tokenizer
        if base is None or tokenizer is None or self._job is not None:
            return
        if not self._wanted.wanted:
            self._notices.warn("Write an example of what the blend should say first")
            return
        adapters, state = session.stack.by_key, session.stack.state
        keys, span, points = dialog.keys, dialog.span, dialog.points_box.value()

        def measured(engine: LearningEngine, examples: Sequence[Example]) -> Work:
            return scan_landscape(engine, examples, adapters, state, keys, (span, span), points)

        dialog.set_running(True)
        self._outdated = False
        job = self._job = self._jobs.run(
            "Measure the landscape",
            self._wanted.work(base, tokenizer, measured),
            lambda found: self._take(job, found, state),
            long=True,
            ended=lambda: self._end(job),
        )

    def stop(self) -> None:
        """Stop measuring."""
        if self._job is not None:
            self._job.cancel()

    def _follow_job(self, job: Job) -> None:
        if job is self._job and job.progress.total:
            self.dialog.set_done(job.progress.done, job.progress.total)

    def _take(self, job: Job, found: Landscape, state: MixerState) -> None:
        if job is not self._job or found.keys != self.dialog.keys:
            return
        self._shown = found, state
        self.dialog.view.set_landscape(found.x, found.y, found.losses)
        self.dialog.colour_bar.set_range(float(found.losses.min()), float(found.losses.max()), "nats")
        self._follow()

    def _end(self, job: Job) -> None:
        if job is self._job:
            self._job = None
            self.dialog.set_running(False)

    def _move(self, x: float, y: float) -> None:
        """Move the two faders at once."""
        stack, to = self._session.stack, dict(zip(self.dialog.keys, (x, y), strict=True))
        stack.state = replace(
            stack.state,
            channels=tuple(
                replace(channel, scale=to.get(channel.key, channel.scale)) for channel in stack.state.channels
            ),
        )

    def _follow(self) -> None:
        """Bring channels, point and readout up to date."""
        stack, dialog = self._session.stack, self.dialog
        heard = [channel for channel in stack.state.channels if stack.state.audible(channel)]
        dialog.set_channels([(channel.key, stack.by_key[channel.key].name) for channel in heard])
        self._window.commands.landscape.setEnabled(not stack.is_empty)
        reason = "" if len(heard) > 1 else "A landscape lies over two channels: add or unmute another one"
        dialog.set_obstacle(reason if self._session.tokenizer else "Open a base model that takes text first")
        if self._shown is not None and self._shown[0].keys != dialog.keys:
            self._follow_channels()
        scales = {channel.key: channel.scale for channel in heard}
        names = {channel.key: stack.by_key[channel.key].name for channel in heard}
        x, y = dialog.keys
        dialog.view.set_names(names.get(x, ""), names.get(y, ""))
        dialog.view.set_point(scales.get(x, 0.0), scales.get(y, 0.0))
        self._show_readout(None)

    def _follow_channels(self) -> None:
        """Let go of a landscape of other channels."""
        self._shown = None
        self.stop()
        self.dialog.view.clear_landscape()
        self._frame.request()

    def _forget(self) -> None:
        self._follow_channels()

    def _outdate(self) -> None:
        self._outdated = True
        self._show_readout(None)

    def _show_readout(self, pointed: tuple[float, float, float] | None) -> None:
        """Say what is under the mouse, or where the point is and where it would be best."""
        view = self.dialog.view
        if self._shown is None:
            self.dialog.readout.setText(HINT)
        elif self._is_stale():
            self.dialog.readout.setText(STALE)
        elif pointed is not None:
            x, y, loss = pointed
            self.dialog.readout.setText(f"{x:.2f} across · {y:.2f} up · {loss:.3f} nats a token")
        else:
            loss_here, lowest = view.loss_at(*view.point), view.lowest
            here = "outside" if loss_here is None else f"{loss_here:.3f} nats a token"
            best = ""
            if lowest is not None:  # on the grid: between its points it may be lower still
                best = f" · lowest measured {lowest[2]:.3f} at {lowest[0]:.2f}, {lowest[1]:.2f}"
            self.dialog.readout.setText(here + best)

    def _is_stale(self) -> bool:
        """Say whether what is shown was measured on other examples, or beside other channels."""
        if self._shown is None:
            return False
        found, state = self._shown
        return self._outdated or _others(state, found.keys) != _others(self._session.stack.state, found.keys)


def _others(state: MixerState, keys: tuple[str, str]) -> tuple[float, tuple[ChannelState, ...]]:
    """Return all that a landscape does not turn: the master, and the channels but for two scales."""
    return state.master, tuple(
        replace(channel, scale=0.0) if channel.key in keys else channel for channel in state.channels
    )
