"""What goes wrong is said readably, and the desk lives on with what it had."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import pytest

from studio.contracts import PanelSpec, PluginStatus
from studio.engine.cupy_backend import DeviceFailedError
from studio.errors import EngineError, PluginError
from studio.gui import questions
from studio.gui.error_dialog import ErrorDialog
from studio.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Callable

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk


def lives_on(desk: Desk, qtbot: QtBot) -> None:
    """Check that base and stack are as before and that a fader still reaches the engine."""
    assert desk.window.base_text.startswith("base · llama")
    assert list(desk.session.stack.by_key) == ["adapter"]
    with qtbot.waitSignal(desk.live.shown):
        desk.window.stack.rows["adapter"].number.setValue(0.25)


def failure(desk: Desk, qtbot: QtBot, start: Callable[[], object]) -> str:
    """Start something that fails and return what the toast says."""
    with qtbot.waitSignal(desk.notices.failed) as failed:
        start()
    assert failed.args is not None
    assert desk.window.toast.label.text() == failed.args[0]
    return str(failed.args[0])


def test_a_truncated_base(desk: Desk, qtbot: QtBot, write_base: Callable[..., Path]) -> None:
    path = write_base("cut.gguf")
    path.write_bytes(path.read_bytes()[:5000])
    text = failure(desk, qtbot, lambda: desk.models.open_base(path))
    assert text.startswith("Open cut.gguf: ")
    lives_on(desk, qtbot)


def test_an_adapter_with_nan(desk: Desk, qtbot: QtBot, write_adapter: Callable[..., Path]) -> None:
    path = write_adapter("nan.gguf", nan=True)
    text = failure(desk, qtbot, lambda: desk.models.add_adapter(path))
    assert "blk.1.attn_q.weight" in text
    lives_on(desk, qtbot)


def test_an_adapter_for_other_sizes(desk: Desk, qtbot: QtBot, write_adapter: Callable[..., Path]) -> None:
    path = write_adapter("wide.gguf", width=64)
    text = failure(desk, qtbot, lambda: desk.models.add_adapter(path))
    assert "64" in text
    lives_on(desk, qtbot)


def test_a_file_that_is_nothing(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("shopping")
    with qtbot.waitSignal(desk.notices.shown) as shown:
        desk.window.paths_dropped.emit([path])
    assert shown.args == ["notes.txt is neither a base, an adapter, nor a session"]
    lives_on(desk, qtbot)


def test_a_damaged_session(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    path = tmp_path / "bad.json"
    path.write_text('{"version": 1, "adapters": "many"}')
    desk.session.mark_saved(tmp_path / "mine.json")  # else it asks about the changes first
    text = failure(desk, qtbot, lambda: desk.sessions.open(path))
    assert text.startswith("Open bad.json: ")
    lives_on(desk, qtbot)


def test_an_unknown_architecture_refuses_the_forward_pass_alone(
    desk: Desk, qtbot: QtBot, write_base: Callable[..., Path]
) -> None:
    text = failure(desk, qtbot, lambda: desk.models.open_base(write_base("odd.gguf", architecture="oddity")))
    assert "oddity" in text
    qtbot.waitUntil(lambda: "oddity" in desk.window.next_token.message_label.text())
    assert desk.window.base_text.startswith("odd · oddity")
    qtbot.waitUntil(lambda: not desk.window.commands.generate.isEnabled())
    assert "oddity" in desk.window.generation.generate_button.toolTip()
    desk.models.open_base(write_base("even.gguf"))
    qtbot.waitUntil(lambda: desk.window.commands.generate.isEnabled())


def test_the_report_of_a_failure_opens_from_the_toast(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    failure(desk, qtbot, lambda: desk.models.open_base(tmp_path / "gone.gguf"))
    desk.window.toast.action_button.click()
    dialog = desk.window.findChild(ErrorDialog)
    assert dialog is not None
    dialog.close()


def test_a_broken_plugin_is_listed_and_the_rest_works(
    make_desk: Callable[[Registry], Desk], plugins: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "broken_panel", broken := ModuleType("broken_panel"))
    broken.make = lambda session: 1 / 0  # type: ignore[attr-defined]
    status = PluginStatus("broken", "1.0", (), PluginError("it divides by zero"))
    panel = PanelSpec("Broken panel", "broken_panel:make")
    desk = make_desk(
        Registry(
            plugins.model_loaders,
            plugins.adapter_loaders,
            plugins.exporters,
            (panel,),
            (*plugins.statuses, status),
        )
    )
    assert "it divides by zero" in desk.window.toast.label.text()
    assert "1 failed" in desk.window.plugins_text
    desk.plugins.open_panel(panel)
    assert "The panel Broken panel failed: ZeroDivisionError" in desk.window.toast.label.text()
    assert "Broken panel" not in desk.window.docks


def test_what_nobody_caught_is_reported(desk: Desk) -> None:
    try:
        raise RuntimeError("a slot broke")
    except RuntimeError as error:
        desk.notices.unexpected(type(error), error, error.__traceback__)
    assert "a slot broke" in desk.window.toast.label.text()


def test_a_device_that_does_not_answer_changes_nothing(
    desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)  # importing it fails
    text = failure(desk, qtbot, lambda: desk.engines.choose("cupy", "auto"))
    assert text.startswith("Choose the device: ")
    assert desk.window.menus.devices.devices["auto"].isChecked()
    lives_on(desk, qtbot)


def test_the_device_changes_under_the_session(desk: Desk, qtbot: QtBot) -> None:
    menu = desk.window.menus.devices
    with qtbot.waitSignal(desk.live.shown):
        menu.devices["numpy"].trigger()
    assert menu.devices["numpy"].isChecked() and not menu.devices["auto"].isChecked()
    lives_on(desk, qtbot)


def test_the_weights_change_under_the_session(desk: Desk, qtbot: QtBot) -> None:
    menu = desk.window.menus.devices
    with qtbot.waitSignal(desk.live.shown):
        menu.weights["quantised"].trigger()
    assert "weights quantised" in desk.engine.description and menu.weights["quantised"].isChecked()
    text = failure(desk, qtbot, menu.weights["float16"].trigger)
    assert "NumPy takes no float16 weights" in text
    assert "weights quantised" in desk.engine.description and menu.weights["quantised"].isChecked()
    lives_on(desk, qtbot)


def test_the_newest_choice_of_a_device_counts(desk: Desk, qtbot: QtBot) -> None:
    for weights in ("dense", "quantised", "dense", "quantised"):
        desk.engines.choose("numpy", weights)
    qtbot.waitUntil(lambda: not desk.jobs.busy)
    assert desk.window.menus.devices.weights["quantised"].isChecked()
    qtbot.waitUntil(lambda: "weights quantised" in desk.engine.description)


@pytest.mark.gpu
def test_the_session_moves_to_a_real_device_and_back(cuda_device: str, desk: Desk, qtbot: QtBot) -> None:
    for device, name in ((cuda_device, "CuPy"), ("numpy", "NumPy")):
        with qtbot.waitSignal(desk.live.shown):
            desk.engines.choose(device, "auto")
        assert desk.engine.description.startswith(name)
        lives_on(desk, qtbot)


@pytest.mark.parametrize("cause", [MemoryError(), RuntimeError(), Exception("a kernel does not compile")])
def test_a_gpu_that_fails_offers_the_cpu(
    cause: Exception, desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def use_cpu(parent: object, reason: str) -> bool:
        asked.append(reason)
        return True

    monkeypatch.setattr(questions, "use_cpu", use_cpu)
    error = DeviceFailedError("the GPU failed")
    error.__cause__ = cause
    with qtbot.waitSignal(desk.live.shown):
        desk.engine.failed.emit(error)
    desk.engine.failed.emit(EngineError("the memory ran out"))  # the CPU's
    assert asked == ["the GPU failed"]
    assert desk.window.menus.devices.devices["numpy"].isChecked()


def test_a_prompt_longer_than_the_context(desk: Desk, qtbot: QtBot) -> None:
    desk.window.prompt.prompt_changed.emit("z" * 200, False)
    says = desk.window.next_token.message_label
    qtbot.waitUntil(lambda: "the prompt has 200 tokens, and the base takes 128" in says.text())
    assert says.text().endswith("Shorten the prompt to 128 tokens.")
    assert not desk.window.toast.isVisible() or "tokens" not in desk.window.toast.label.text()
    desk.window.prompt.prompt_changed.emit("z", False)
    qtbot.waitUntil(lambda: desk.window.prompt.count_label.text().startswith("1 /"))
    lives_on(desk, qtbot)
