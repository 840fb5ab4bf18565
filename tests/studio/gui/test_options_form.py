"""An options dataclass becomes a form, and the form becomes the dataclass again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest
from PySide6.QtCore import QPoint, QPointF, Qt
from PySide6.QtGui import QWheelEvent
from PySide6.QtWidgets import (
    QApplication,
    QCheckBox,
    QComboBox,
    QDoubleSpinBox,
    QLineEdit,
    QSpinBox,
    QWidget,
)

from studio.gui.options_form import OptionsForm

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

Editor = TypeVar("Editor", bound=QWidget)


@dataclass(frozen=True)
class Options:
    type: str = field(default="F32", metadata={"choices": ("F32", "F16"), "help": "storage type"})
    rank: int = field(default=8, metadata={"range": (1, 64)})
    share: float = 0.25
    verify: bool = True
    author: str = "nobody"


def find(form: OptionsForm, kind: type[Editor], name: str) -> Editor:
    editor = form.findChild(kind, name)
    assert editor is not None
    return editor


@dataclass(frozen=True)
class Unrenderable:
    shape: tuple[int, ...] = ()


def test_an_untouched_form_gives_the_defaults(qtbot: QtBot) -> None:
    form = OptionsForm(Options)
    qtbot.addWidget(form)
    assert form.values() == Options()


def test_edits_come_out_as_the_dataclass(qtbot: QtBot) -> None:
    form = OptionsForm(Options)
    qtbot.addWidget(form)
    find(form, QComboBox, "type").setCurrentText("F16")
    find(form, QSpinBox, "rank").setValue(1000)  # held inside its range
    find(form, QCheckBox, "verify").setChecked(False)
    find(form, QLineEdit, "author").setText("me")
    assert form.values() == Options(type="F16", rank=64, verify=False, author="me")


def test_help_and_names_reach_the_editors(qtbot: QtBot) -> None:
    form = OptionsForm(Options)
    qtbot.addWidget(form)
    box = find(form, QComboBox, "type")
    assert (box.toolTip(), box.accessibleName()) == ("storage type", "Type")


def test_a_field_without_an_editor_is_named(qtbot: QtBot) -> None:
    with pytest.raises(TypeError, match="no editor for an option of the type tuple"):
        OptionsForm(Unrenderable)


@dataclass(frozen=True)
class Learning:
    rate: float = field(default=5e-4, metadata={"range": (1e-9, 10.0)})
    steps: int = 30
    decay: float = 0.0


def test_small_numbers_are_shown_and_kept(qtbot: QtBot) -> None:
    form = OptionsForm(Learning, columns=2)
    qtbot.addWidget(form)
    rate = find(form, QDoubleSpinBox, "rate")
    assert rate.text() == "0.0005" and find(form, QDoubleSpinBox, "decay").text() == "0.0"
    rate.stepUp()
    assert 5e-4 < rate.value() < 6e-4
    rate.setValue(2e-6)
    assert form.values() == Learning(rate=2e-6)
    assert rate.lineEdit().accessibleName() == "Rate"


def test_the_wheel_scrolls_past_what_has_no_focus(qtbot: QtBot) -> None:
    form = OptionsForm(Learning)
    qtbot.addWidget(form)
    form.show()
    steps, rate = find(form, QSpinBox, "steps"), find(form, QDoubleSpinBox, "rate")
    form.activateWindow()
    rate.setFocus()
    qtbot.waitUntil(rate.hasFocus)
    for editor in (steps, rate):
        place = QPointF(editor.rect().center())
        none, buttons = Qt.KeyboardModifier.NoModifier, Qt.MouseButton.NoButton
        turned = QWheelEvent(
            place, editor.mapToGlobal(place), QPoint(), QPoint(0, 120), buttons, none,
            Qt.ScrollPhase.NoScrollPhase, False,
        )  # fmt: skip
        QApplication.sendEvent(editor, turned)
    assert steps.value() == 30 and rate.value() > 5e-4
