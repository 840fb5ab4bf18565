"""The error report."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtGui import QGuiApplication

from studio.errors import FormatError
from studio.gui.error_dialog import ErrorDialog, error_report

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

ERROR = FormatError(
    "3 values are not finite", path=Path("pirate.gguf"), where="blk.0.attn_q.lora_a", remedy="Export it anew"
)


def test_a_known_error_says_what_where_and_what_to_do() -> None:
    assert error_report("Could not load pirate", ERROR).splitlines() == [
        "Could not load pirate",
        "Problem: 3 values are not finite",
        "File: pirate.gguf",
        "Where: blk.0.attn_q.lora_a",
        "What to do: Export it anew",
        "Kind: FormatError",
    ]


def test_an_unexpected_error_brings_its_traceback() -> None:
    try:
        {"here": 1}["missing"]
    except KeyError as error:
        report = error_report("Could not load pirate", error)
    assert "Kind: KeyError" in report
    assert "Traceback (most recent call last)" in report


def test_details_unfold_and_the_report_can_be_copied(qtbot: QtBot) -> None:
    dialog = ErrorDialog("Could not load pirate", ERROR)
    qtbot.addWidget(dialog)
    dialog.show()
    assert not dialog.details.isVisible()
    dialog.details_button.click()
    assert dialog.details.isVisible()
    dialog.copy_button.click()
    assert QGuiApplication.clipboard().text() == dialog.report
    dialog.close_button.click()
    assert not dialog.isVisible()


def test_it_is_as_high_as_its_text_and_details_keep_its_width(qtbot: QtBot) -> None:
    dialog = ErrorDialog("Could not load pirate", ERROR)
    qtbot.addWidget(dialog)
    dialog.resize(640, 200)
    dialog.show()
    layout = dialog.layout()
    assert layout is not None
    folded = dialog.height()
    assert folded == layout.totalHeightForWidth(640)
    dialog.details_button.click()
    assert dialog.width() == 640 and dialog.height() > folded + 180
    dialog.details_button.click()
    assert (dialog.width(), dialog.height()) == (640, folded)
