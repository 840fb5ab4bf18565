"""Sessions are saved and opened again, blends exported, files dropped, and lately opened ones remembered."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from PySide6.QtWidgets import QFileDialog

from studio.contracts import BASE_ALONE
from studio.gui import questions
from studio.gui.controllers.exports import blend_facts
from studio.gui.export_dialog import ExportDialog
from studio.gui.recognise import kind_of
from studio.gui.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk
    from studio.registry import Registry


def test_a_session_comes_back(
    desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path = tmp_path / "mine.lorastudio.json"
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(path), ""))
    desk.window.stack.rows["adapter"].number.setValue(0.75)
    desk.window.commands.save_as.trigger()
    qtbot.waitUntil(lambda: not desk.session.modified)
    assert desk.window.windowTitle() == "mine[*] — LoRA Studio"

    desk.window.stack.rows["adapter"].number.setValue(-1.0)
    assert desk.window.isWindowModified()
    monkeypatch.setattr(questions, "save_changes", lambda parent, name: "discard")
    with qtbot.waitSignal(desk.sessions.opened):
        desk.window.paths_dropped.emit([path])
    assert desk.session.stack.channel("adapter").scale == 0.75
    assert desk.session.prompt.text == desk.window.prompt.text == "hello there"
    assert not desk.window.isWindowModified()
    assert desk.settings.recent[0] == path


def test_an_adapter_that_moved_is_pointed_at(
    desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    desk.session.mark_saved(tmp_path / "mine.lorastudio.json")
    with qtbot.waitSignal(desk.notices.shown):
        desk.sessions.save()
    moved = (tmp_path / "adapter.gguf").rename(tmp_path / "elsewhere.gguf")
    asked: list[str] = []

    def relink(parent: object, missing: list[str]) -> bool:
        asked.extend(missing)
        return True

    monkeypatch.setattr(questions, "relink", relink)
    monkeypatch.setattr(QFileDialog, "getOpenFileName", lambda *_: (str(moved), ""))
    with qtbot.waitSignal(desk.sessions.opened):
        desk.sessions.open(tmp_path / "mine.lorastudio.json")
    assert asked == [str(tmp_path / "adapter.gguf")]
    assert list(desk.session.locations.values()) == [str(moved)]


def test_what_a_session_leaves_out_stays_in_its_file(
    desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    path, copy = tmp_path / "mine.lorastudio.json", tmp_path / "copy"
    desk.session.mark_saved(path)
    with qtbot.waitSignal(desk.notices.shown):
        desk.sessions.save()
    whole = path.read_bytes()
    (tmp_path / "base.gguf").rename(tmp_path / "elsewhere.gguf")
    monkeypatch.setattr(questions, "relink", lambda parent, missing: False)
    with qtbot.waitSignal(desk.sessions.opened):
        desk.sessions.open(path)
    assert "2 of what it names were left out (base.gguf, adapter.gguf)" in desk.window.toast.label.text()
    assert desk.window.isWindowModified()

    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(copy), ""))
    desk.window.commands.save.trigger()
    qtbot.waitUntil(lambda: not desk.session.modified)
    assert path.read_bytes() == whole
    assert desk.session.path == tmp_path / "copy.lorastudio.json"


def test_a_session_is_not_saved_over_another_unasked(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    other = tmp_path / "my.session.lorastudio.json"
    other.write_text("precious")
    asked: list[Path] = []
    monkeypatch.setattr(questions, "overwrite", lambda parent, path: asked.append(path))
    monkeypatch.setattr(QFileDialog, "getSaveFileName", lambda *_, **__: (str(tmp_path / "my.session"), ""))
    desk.window.commands.save_as.trigger()
    assert asked == [other]
    assert other.read_text() == "precious" and not desk.jobs.busy


def test_a_session_that_says_too_much_changes_nothing(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    desk.session.mark_saved(tmp_path / "mine.lorastudio.json")
    path = tmp_path / "far.json"
    path.write_text('{"version": 1, "sampling": {"max_tokens": 1000000000000}}')
    with qtbot.waitSignal(desk.notices.failed) as failed:
        desk.sessions.open(path)
    assert failed.args is not None and "max_tokens" in failed.args[0]
    assert list(desk.session.stack.by_key) == ["adapter"]
    desk.window.generation.controls.max_tokens.setValue(9)
    assert desk.session.sampling.max_tokens == 9


def test_the_export_dialog_tells_what_the_blend_is(desk: Desk) -> None:
    desk.window.stack.rows["adapter"].number.setValue(0.5)
    desk.gains.open("adapter")
    desk.gains.editor.presets["last-third"].click()
    assert blend_facts(desk.session)[0] == ("Blend", "adapter × 0.50 × gains")
    desk.session.history.undo()
    assert blend_facts(desk.session) == [("Blend", "adapter × 0.50")]
    desk.window.commands.mute_all.trigger()
    assert blend_facts(desk.session) == [("Blend", "silent: no channel is heard")]


def test_an_export_sounds_like_the_blend(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    desk.window.stack.rows["adapter"].number.setValue(0.5)
    before = answer(desk, qtbot)
    desk.window.commands.export.trigger()
    dialog = desk.window.findChild(ExportDialog)
    assert dialog is not None
    dialog.path_edit.setText(str(tmp_path / "blend"))
    with qtbot.waitSignal(desk.notices.shown) as shown:
        dialog.accept()
    assert shown.args is not None
    assert "llama-server -m" in shown.args[0]
    assert str(tmp_path / "blend.gguf") in shown.args[0]

    desk.window.commands.clear.trigger()
    assert answer(desk, qtbot).request.state == BASE_ALONE
    desk.window.paths_dropped.emit([tmp_path / "blend.gguf"])
    qtbot.waitUntil(lambda: not desk.session.stack.is_empty)
    np.testing.assert_allclose(answer(desk, qtbot).blend.logits, before.blend.logits, rtol=1e-4, atol=1e-4)


def test_another_base_reads_the_adapters_again(
    desk: Desk, qtbot: QtBot, write_base: Callable[..., Path]
) -> None:
    desk.window.stack.rows["adapter"].number.setValue(0.5)
    with qtbot.waitSignal(
        desk.live.shown, check_params_cb=lambda result: result.request.base.name == "other"
    ):
        desk.window.paths_dropped.emit([write_base("other.gguf")])
    assert desk.session.stack.channel("adapter").scale == 0.5
    assert desk.window.base_text.startswith("other · ")


def test_a_base_the_adapter_does_not_fit(desk: Desk, qtbot: QtBot, write_base: Callable[..., Path]) -> None:
    with qtbot.waitSignal(desk.notices.failed) as failed:
        desk.models.open_base(write_base("wide.gguf", width=64))
    assert failed.args is not None
    assert failed.args[0].startswith("An adapter does not fit this base")
    assert desk.session.stack.is_empty


def test_an_adapter_needs_a_base(empty_desk: Desk, write_adapter: Callable[..., Path]) -> None:
    empty_desk.models.add_adapter(write_adapter())
    assert "Open a base model first" in empty_desk.window.toast.label.text()
    assert not empty_desk.window.commands.add_adapter.isEnabled()


def test_files_are_told_apart_by_content(
    plugins: Registry,
    write_base: Callable[..., Path],
    write_adapter: Callable[..., Path],
    adapters_dir: Path,
    tmp_path: Path,
) -> None:
    (tmp_path / "session").write_text('  {"version": 1}')
    assert kind_of(write_base("a.bin"), plugins) == "base"
    assert kind_of(write_adapter("b.bin"), plugins) == "adapter"
    assert kind_of(adapters_dir / "smollm2-fortune", plugins) == "adapter"
    assert kind_of(tmp_path / "session", plugins) == "session"
    assert kind_of(tmp_path / "absent", plugins) == "unknown"


def test_settings_survive(tmp_path: Path) -> None:
    first = Settings(tmp_path / "desk.ini")
    assert (first.theme, first.font_size, first.recent) == ("system", 10.0, [])
    first.theme, first.font_size = "dark", 12.0
    for number in range(10):
        first.remember(tmp_path / str(number % 9))
    second = Settings(tmp_path / "desk.ini")
    assert (second.theme, second.font_size) == ("dark", 12.0)
    assert [path.name for path in second.recent] == ["0", "8", "7", "6", "5", "4", "3", "2"]


def answer(desk: Desk, qtbot: QtBot):  # type: ignore[no-untyped-def]
    """Wait for the answer to what the session holds now."""
    with qtbot.waitSignal(
        desk.live.shown, check_params_cb=lambda result: result.request.state == desk.session.stack.blend
    ) as shown:
        desk.live.refresh()
    assert shown.args is not None
    return shown.args[0]
