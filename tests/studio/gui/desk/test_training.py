"""Training on the desk: chosen in the dialog, watched, heard while it learns, and left on the stack."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import numpy as np
import pytest
from PySide6.QtCore import Qt
from PySide6.QtGui import QColor
from PySide6.QtTest import QTest
from PySide6.QtWidgets import QDoubleSpinBox, QScrollArea, QSpinBox, QWidget

from studio.gui import questions
from studio.gui.export_dialog import ExportDialog
from studio.gui.train_dialog import TrainDialog

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.contracts import FloatArray
    from studio.gui.desk import Desk
    from studio.gui.options_form import OptionsForm

Editor = TypeVar("Editor", bound=QWidget)
LEFT = Qt.MouseButton.LeftButton


def editor(form: OptionsForm, kind: type[Editor], name: str) -> Editor:
    found = form.findChild(kind, name)
    assert found is not None
    return found


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "hello.txt"
    path.write_text("hello there, hello again; " * 12)
    return path


@pytest.fixture
def ask(desk: Desk, qtbot: QtBot, text: Path) -> Callable[..., TrainDialog]:
    """Open the train dialog on a text, with so many steps, once it is known what they take."""

    def ask(steps: int, **options: int) -> TrainDialog:
        desk.window.commands.train.trigger()
        dialog = desk.window.findChild(TrainDialog)
        assert dialog is not None and not dialog.start_button.isEnabled()
        form = dialog.trainer_form
        editor(dialog.data_form, QSpinBox, "max_length").setValue(32)
        editor(dialog.data_form, QDoubleSpinBox, "held_out").setValue(0.2)
        for name, value in {"steps": steps, "rank": 2, **options}.items():
            editor(form, QSpinBox, name).setValue(value)
        editor(form, QDoubleSpinBox, "learning_rate").setValue(0.02)
        dialog.name_edit.setText("trained")
        dialog.data.edit.setText(str(text))
        qtbot.waitUntil(dialog.start_button.isEnabled)
        return dialog

    return ask


def delta(desk: Desk, key: str) -> FloatArray:
    """What a channel's adapter adds to some inputs of one module."""
    adapter = desk.session.stack.by_key[key]
    found = adapter.delta("blk.0.attn_q.weight", np.ones((1, 32), np.float32))
    assert found is not None
    return found


def test_a_run_is_foretold_watched_and_left_on_the_stack(
    desk: Desk, qtbot: QtBot, ask: Callable[..., TrainDialog], tmp_path: Path
) -> None:
    dialog = ask(20, validate_every=5, sample_every=10, sample_tokens=4)
    facts = dict(dialog.facts.facts)
    assert "to measure on" in facts["Data"] and "beside the base" in facts["Memory"]
    assert "hello" in dialog.preview.text.toPlainText()
    dialog.accept()
    panel = desk.window.run
    qtbot.waitUntil(lambda: "trained" in desk.session.stack.by_key)
    qtbot.waitUntil(lambda: panel.state_label.text() == "done after 20 steps")
    shown = panel.numbers.numbers
    assert shown["step"] == "20 / 20" and float(shown["perplexity"]) > 1 and shown["tokens/s"] != "0"
    assert "training loss" in panel.plot.accessibleDescription()
    assert "validation loss" in panel.plot.accessibleDescription()
    assert panel.samples.toPlainText().startswith("Step 20\n")
    assert not panel.stop_button.isEnabled() and desk.window.commands.train.isEnabled()
    assert np.abs(delta(desk, "trained")).max() > 0
    desk.session.history.undo()
    assert "trained" not in desk.session.stack.by_key
    desk.session.history.redo()
    desk.window.commands.export.trigger()
    export = desk.window.findChild(ExportDialog)
    assert export is not None
    export.path_edit.setText(str(tmp_path / "with it.gguf"))
    export.accept()
    qtbot.waitUntil(lambda: (tmp_path / "with it.gguf").exists() and not desk.jobs.busy)


def test_what_is_learnt_lowers_the_loss_on_the_desk(
    desk: Desk, qtbot: QtBot, ask: Callable[..., TrainDialog]
) -> None:
    ask(60, validate_every=30).accept()
    qtbot.waitUntil(lambda: desk.training.name == "")
    train = desk.window.run.plot._train
    assert train[-5:, 1].mean() < 0.8 * train[:5, 1].mean()


def test_the_adapter_is_heard_as_it_learns_and_the_desk_stays_live(
    desk: Desk, qtbot: QtBot, ask: Callable[..., TrainDialog]
) -> None:
    ask(100_000).accept()
    stack, panel = desk.session.stack, desk.window.run
    qtbot.waitUntil(panel.listen_box.isEnabled)
    qtbot.waitUntil(lambda: "step" in panel.numbers.numbers)
    QTest.mouseClick(panel.listen_box, LEFT)
    qtbot.waitUntil(lambda: "trained" in stack.by_key)
    first = stack.by_key["trained"]
    with qtbot.waitSignal(
        desk.live.shown,
        check_params_cb=lambda result: any(
            channel.key == "trained" and channel.version > first.version
            for channel in result.request.state.channels
        ),
    ):
        pass  # a later state of it is heard, with no hand on the desk
    stack.set_scale("trained", 0.5)
    desk.session.history.undo()  # the move of the slider alone
    assert stack.channel("trained").scale == 1.0 and stack.by_key["trained"].version > first.version
    qtbot.waitUntil(lambda: "trained" in desk.window.stack.rows)
    assert desk.window.stack.rows["trained"].channel.details.startswith("r")  # its rank
    desk.session.history.undo()  # and the channel
    qtbot.waitUntil(lambda: not panel.listen_box.isChecked())
    QTest.mouseClick(panel.listen_box, LEFT)
    qtbot.waitUntil(lambda: len(stack.by_key) == 2)
    QTest.mouseClick(panel.stop_button, LEFT)
    qtbot.waitUntil(lambda: desk.training.name == "")
    assert "stopped; kept step" in panel.state_label.text()
    assert len(stack.by_key) == 2 and np.abs(delta(desk, list(stack.by_key)[1])).max() > 0


def test_a_run_that_does_not_fit_or_cannot_be_is_refused_with_the_reason(
    desk: Desk,
    qtbot: QtBot,
    ask: Callable[..., TrainDialog],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dialog = ask(10)
    with monkeypatch.context() as small_machine:
        small_machine.setattr("studio.jobs.training_outlook.available_memory", lambda: 1000)
        editor(dialog.trainer_form, QSpinBox, "rank").setValue(256)
        qtbot.waitUntil(lambda: "does not fit in memory" in dialog.facts.advice.text())
        assert not dialog.start_button.isEnabled()
    editor(dialog.trainer_form, QSpinBox, "rank").setValue(1)
    qtbot.waitUntil(dialog.start_button.isEnabled)
    editor(dialog.data_form, QDoubleSpinBox, "held_out").setValue(0.0)
    damaged = tmp_path / "damaged.jsonl"
    damaged.write_text('{"text": "hello"}\n{"text": 3}\n')
    dialog.data.edit.setText(str(damaged))
    qtbot.waitUntil(lambda: "line 2" in dialog.facts.advice.text())
    assert not dialog.start_button.isEnabled()
    QTest.keyClick(dialog.name_edit, Qt.Key.Key_Return)
    assert dialog.isVisible()
    dialog.reject()


def test_masked_tokens_are_grey(desk: Desk, qtbot: QtBot, tmp_path: Path) -> None:
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text('{"prompt": "hello", "completion": " there"}\n' * 2)
    desk.window.commands.train.trigger()
    dialog = desk.window.findChild(TrainDialog)
    assert dialog is not None
    dialog.data.edit.setText(str(pairs))
    assert dialog.name == "pairs"
    qtbot.waitUntil(lambda: "hello there" in dialog.preview.text.toPlainText())
    cursor = dialog.preview.text.textCursor()
    colours = []
    for position in (1, 8):
        cursor.setPosition(position)
        colours.append(cursor.charFormat().foreground().color())
    assert colours[0] != colours[1] and isinstance(colours[0], QColor)
    assert "learnt" in dialog.preview.caption.text()
    dialog.reject()


def test_another_base_ends_a_run_only_if_that_is_wanted(
    desk: Desk,
    qtbot: QtBot,
    ask: Callable[..., TrainDialog],
    write_base: Callable[..., Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ask(100_000).accept()
    qtbot.waitUntil(lambda: "step" in desk.window.run.numbers.numbers)
    other, before = write_base("other.gguf"), desk.session.base
    answers = [True, False]
    monkeypatch.setattr(questions, "leave_training", lambda *_: answers.pop())
    desk.models.open_base(other)
    assert answers == [True] and not desk.jobs.wanted[1:] and desk.session.base is before
    desk.models.open_base(other)
    qtbot.waitUntil(lambda: desk.session.base is not before and desk.training.name == "")
    assert "trained" not in desk.session.stack.by_key


def test_closing_the_desk_ends_a_run(desk: Desk, qtbot: QtBot, ask: Callable[..., TrainDialog]) -> None:
    ask(100_000).accept()
    qtbot.waitUntil(lambda: "step" in desk.window.run.numbers.numbers)
    desk.close()
    assert not desk.jobs.wanted


def test_tab_goes_through_fields_alone(ask: Callable[..., TrainDialog]) -> None:
    dialog = ask(1)
    areas = dialog.findChildren(QScrollArea)
    assert areas and not any(area.focusPolicy() & Qt.FocusPolicy.TabFocus for area in areas if area.widget())
    dialog.reject()
