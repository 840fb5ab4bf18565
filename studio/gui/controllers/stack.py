"""The stack panel and the Stack and Edit menus: moves go to the stack, the stack comes back to the strips."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.contracts import EVEN
from studio.gui.channel_row import Channel
from studio.gui.frame import OncePerFrame
from studio.gui.report_panel import has_warnings, summary
from studio.lora.adapter import Adapter

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from studio.contracts import ChannelState, DeltaAdapter
    from studio.gui.controllers.norms import NormsController
    from studio.gui.main_window import MainWindow
    from studio.lora.report import AdapterReport
    from studio.session.session import Session


class StackController(QObject):
    """Keeps strips and stack the same. One drag is one step of the history."""

    def __init__(self, session: Session, norms: NormsController, window: MainWindow, parent: QObject) -> None:
        super().__init__(parent)
        self._session = session
        self._norms = norms
        self._window = window
        stack, history, panel, commands = session.stack, session.history, window.stack, window.commands
        panel.scale_changed.connect(stack.set_scale)
        panel.master_changed.connect(stack.set_master)
        panel.drag_started.connect(lambda key: history.begin())
        panel.drag_finished.connect(lambda key: history.end())
        panel.mute_toggled.connect(stack.set_muted)
        panel.solo_toggled.connect(stack.set_soloed)
        panel.remove_requested.connect(session.remove_adapter)
        commands.undo.triggered.connect(history.undo)
        commands.redo.triggered.connect(history.redo)
        commands.clear.triggered.connect(stack.clear)
        commands.mute_all.triggered.connect(lambda: self._all(lambda channel: replace(channel, muted=True)))
        commands.unmute_all.triggered.connect(
            lambda: self._all(lambda channel: replace(channel, muted=False))
        )
        commands.reset.triggered.connect(self._reset)
        self._frame = OncePerFrame(self._show, self)
        stack.changed.connect(self._frame.request)
        session.base_changed.connect(self._show)
        history.changed.connect(self._show_history)
        norms.changed.connect(self._show)
        self._show()
        self._show_history()

    def _all(self, change: Callable[[ChannelState], ChannelState]) -> None:
        stack = self._session.stack
        stack.state = replace(stack.state, channels=tuple(map(change, stack.state.channels)))

    def _reset(self) -> None:
        with self._session.history.step():
            self._session.stack.set_master(1.0)
            self._all(lambda channel: replace(channel, scale=1.0, muted=False, soloed=False))

    def _show(self) -> None:
        stack, commands = self._session.stack, self._window.commands
        self._window.stack.set_channels([self._channel(channel) for channel in stack.state.channels])
        self._window.stack.set_master(stack.state.master)
        self._window.stack.set_adding_enabled(self._session.base is not None)
        for action in (
            commands.mute_all,
            commands.unmute_all,
            commands.reset,
            commands.clear,
            commands.export,
            commands.copy_command,
            commands.combine,
        ):
            action.setEnabled(not stack.is_empty)

    def _show_history(self) -> None:
        self._window.commands.undo.setEnabled(self._session.history.can_undo)
        self._window.commands.redo.setEnabled(self._session.history.can_redo)

    def _channel(self, channel: ChannelState) -> Channel:
        stack = self._session.stack
        report = self._session.reports.get(channel.key)
        scale = stack.state.master * channel.scale
        strength = self._norms.strength(channel.key, scale, channel.gains)
        details = rank_details(stack.by_key[channel.key]) if report is None else report_details(report)
        if channel.gains != EVEN:
            details.append("gains")
        if strength is not None:
            percent = 100 * strength
            details.append(f"‖Δ‖ {percent:.1f} %" if percent >= 1 else f"‖Δ‖ {percent:.2f} %")
        return Channel(
            key=channel.key,
            name=stack.by_key[channel.key].name,
            details=" · ".join(details),
            scale=channel.scale,
            muted=channel.muted,
            soloed=channel.soloed,
            audible=stack.state.audible(channel),
            shaped=channel.gains != EVEN,
            warning="" if report is None else report_warning(report),
            report="" if report is None else summary(report),
            flagged=report is not None and has_warnings(report),
        )


def report_details(report: AdapterReport) -> list[str]:
    """Return the short facts of a report, such as ``r8`` and ``210/210``."""
    return [_span(report.ranks), f"{report.matched}/{report.modules}"]


def rank_details(adapter: DeltaAdapter) -> list[str]:
    """Return the short facts of an adapter that was made here and has no report."""
    return [_span(adapter.ranks)] if isinstance(adapter, Adapter) and adapter.ranks else []


def _span(ranks: Sequence[int]) -> str:
    return f"r{ranks[0]}" if len(ranks) == 1 else f"r{ranks[0]}–{ranks[-1]}"


def report_warning(report: AdapterReport) -> str:
    """Return on one line what the user should know of how an adapter fits: modules that do not act, notes."""
    lines = list(report.notes)
    if report.unmatched:
        names = ", ".join(report.unmatched[:8]) + (", …" if len(report.unmatched) > 8 else "")
        lines.insert(0, f"{len(report.unmatched)} modules do not act: {names}")
    return "; ".join(lines)
