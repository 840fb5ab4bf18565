"""A move of a fader reaches the engine and comes back to the views; a drag is one step of undo."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from studio.gui.channel_row import ChannelRow
    from studio.gui.desk import Desk
    from studio.jobs.live import LiveResult


def strip(desk: Desk) -> ChannelRow:
    return desk.window.stack.rows["adapter"]


def scale(desk: Desk) -> float:
    return desk.session.stack.channel("adapter").scale


def answer(desk: Desk, qtbot: QtBot) -> LiveResult:
    """Wait for the answer to what the session holds now."""
    found: list[LiveResult] = []
    desk.live.shown.connect(found.append)
    desk.live.refresh()
    qtbot.waitUntil(lambda: bool(found) and found[-1].request.state == desk.session.stack.blend)
    desk.live.shown.disconnect(found.append)
    return found[-1]


def test_a_fader_changes_the_next_token(desk: Desk, qtbot: QtBot) -> None:
    with qtbot.waitSignal(desk.live.shown) as shown:
        strip(desk).number.setValue(-2.5)
    assert shown.args is not None
    result: LiveResult = shown.args[0]

    assert [channel.scale for channel in result.request.state.channels] == [-2.5]
    view = desk.window.next_token
    assert view.model.rowCount() == len(result.next_token.candidates)
    assert f"KL {result.next_token.kl:.2f}" in view.summary_label.text()
    assert result.next_token.kl > 0


def test_silence_is_the_base(desk: Desk, qtbot: QtBot) -> None:
    strip(desk).mute_button.click()
    result = answer(desk, qtbot)
    assert result.request.state.channels == ()
    np.testing.assert_array_equal(result.blend.logits, result.base.logits)
    qtbot.waitUntil(lambda: not strip(desk).channel.audible)


def test_a_drag_is_one_step_of_undo(desk: Desk) -> None:
    fader = strip(desk).fader
    fader.drag_started.emit()
    for value in (1.2, 1.5, 1.9):
        fader.moved.emit(value)
    fader.drag_finished.emit()
    assert scale(desk) == 1.9

    desk.window.commands.undo.trigger()
    assert scale(desk) == 1.0
    assert desk.window.commands.redo.isEnabled()
    desk.window.commands.redo.trigger()
    assert scale(desk) == 1.9


def test_undo_moves_the_strip_back(desk: Desk, qtbot: QtBot) -> None:
    strip(desk).number.setValue(0.3)
    desk.window.commands.undo.trigger()
    qtbot.waitUntil(lambda: strip(desk).number.value() == 1.0)


def test_a_flood_of_moves_ends_at_the_newest(desk: Desk, qtbot: QtBot) -> None:
    shown: list[LiveResult] = []
    desk.live.shown.connect(shown.append)
    for step in range(200):
        strip(desk).fader.moved.emit(step / 100)
    qtbot.waitUntil(lambda: bool(shown) and shown[-1].request.state == desk.session.stack.blend)
    assert len(shown) < 200
    assert shown[-1].request.state.channels[0].scale == 1.99


def test_the_menu_mutes_and_resets_all_in_one_step(desk: Desk) -> None:
    strip(desk).number.setValue(0.5)
    desk.window.commands.mute_all.trigger()
    assert desk.session.stack.channel("adapter").muted
    desk.window.commands.reset.trigger()
    channel = desk.session.stack.channel("adapter")
    assert (channel.scale, channel.muted) == (1.0, False)
    desk.window.commands.undo.trigger()
    channel = desk.session.stack.channel("adapter")
    assert (channel.scale, channel.muted) == (0.5, True)


def test_the_heatmap_follows_without_a_forward_pass(desk: Desk, qtbot: QtBot) -> None:
    heatmap = desk.window.heatmap
    whole = heatmap.range[1]
    assert whole > 0
    strip(desk).number.setValue(2.0)
    qtbot.waitUntil(lambda: bool(np.isclose(heatmap.range[1], 2 * whole)))


def test_the_heatmap_offers_each_adapter(desk: Desk, qtbot: QtBot) -> None:
    heatmap = desk.window.heatmap
    strip(desk).number.setValue(0.0)
    qtbot.waitUntil(lambda: heatmap.range[1] == 0)
    heatmap.mode_changed.emit("adapter:adapter")  # as trained, whatever the fader says
    assert heatmap.range[1] > 0


def test_the_strip_tells_how_the_adapter_fits(desk: Desk, qtbot: QtBot) -> None:
    qtbot.waitUntil(lambda: "‖Δ‖" in strip(desk).channel.details)
    assert strip(desk).channel.details.startswith("r4 · 4/4 · ")


def test_the_status_bar_tells_the_base_and_the_time(desk: Desk) -> None:
    assert desk.window.base_text.startswith("base · llama · F32 · ")
    assert desk.window.latency_text.endswith(" ms")


def test_generation_streams_both_sides(desk: Desk, qtbot: QtBot) -> None:
    desk.window.generation.sampling_changed.emit(desk.session.sampling.__class__(max_tokens=6))
    with qtbot.waitSignal(desk.prompt.finished):
        desk.window.commands.generate.trigger()
    streams = desk.window.generation.streams
    for side in ("base", "blend"):
        assert "tokens" in streams[side].status_label.text()
        assert len(streams[side].pieces) <= 6
    assert not desk.window.commands.stop.isEnabled()


def test_faders_stay_live_while_generating_and_stop_stops(desk: Desk, qtbot: QtBot) -> None:
    desk.window.generation.sampling_changed.emit(
        desk.session.sampling.__class__(max_tokens=100, temperature=3.0)
    )
    finished: list[bool] = []
    desk.prompt.finished.connect(lambda: finished.append(True))
    desk.window.commands.generate.trigger()
    with qtbot.waitSignal(desk.live.shown):
        strip(desk).number.setValue(0.4)
    desk.window.commands.stop.trigger()
    qtbot.waitUntil(lambda: bool(finished))
    assert desk.window.generation.generate_button.isEnabled()


def test_an_empty_prompt_asks_for_one(desk: Desk, qtbot: QtBot) -> None:
    desk.window.prompt.prompt_changed.emit("", False)
    qtbot.waitUntil(lambda: "Write a prompt" in desk.window.next_token.message_label.text())
    assert desk.window.next_token.summary_label.text() == ""
    assert not desk.window.commands.generate.isEnabled()
    assert "Write a prompt" in desk.window.generation.generate_button.toolTip()
    desk.window.prompt.generate_requested.emit()  # Ctrl+Return
    assert not desk.window.toast.isVisible() or "cannot" not in desk.window.toast.label.text()
    desk.window.prompt.prompt_changed.emit("hello", False)
    assert desk.window.commands.generate.isEnabled()
