"""An options dataclass becomes a form, and the form becomes the dataclass again."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

import pytest
from PySide6.QtWidgets import QCheckBox, QComboBox, QLineEdit, QSpinBox, QWidget

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
