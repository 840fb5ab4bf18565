"""The report panel: findings with program and remedy, as text and as rich text that no name can break."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from PySide6.QtGui import QGuiApplication

from studio.contracts import Finding
from studio.gui.report_panel import ReportPanel, has_warnings, summary
from studio.lora.report import AdapterReport

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


def report(name: str = "pirate", *findings: Finding, unmatched: tuple[str, ...] = ()) -> AdapterReport:
    return AdapterReport(
        name=name,
        format="PEFT",
        modules=4 + len(unmatched),
        matched=4,
        base_modules=14,
        covered=4,
        unmatched=unmatched,
        ranks=(4, 8),
        alphas=(16.0,),
        norms={},
        notes=("It has <b>tags</b>",),
        findings=findings,
    )


RSLORA = Finding("rslora", "warning", "It is rsLoRA", (("llama.cpp", "is too weak"),), "Export it here")
NOTE = Finding("note", "info", "It is small")


@pytest.fixture
def panel(qtbot: QtBot) -> ReportPanel:
    panel = ReportPanel()
    qtbot.addWidget(panel)
    return panel


def test_it_says_what_other_programs_do_and_what_to_do_about_it(panel: ReportPanel) -> None:
    panel.set_reports({"pirate": report("pirate", RSLORA, unmatched=("blk.9.odd.weight",))})
    shown = panel.text.toPlainText()
    for text in ("4 of its 5 modules", "4 to 8", "Warning", "llama.cpp", "is too weak", "Export it here"):
        assert text in shown
    assert "blk.9.odd.weight" in shown
    assert "It has <b>tags</b>" in shown  # a stranger's words are no markup
    panel.copy_button.click()
    copied = QGuiApplication.clipboard().text()
    assert "  llama.cpp: is too weak" in copied and "  blk.9.odd.weight" in copied


def test_the_shown_report_stays_while_others_come_and_go(panel: ReportPanel) -> None:
    assert not panel.choice.isEnabled() and not panel.copy_button.isEnabled()
    panel.set_reports({"one": report("one"), "two": report("two", NOTE)})
    panel.set_shown("two")
    panel.set_reports({"zero": report("zero"), "two": report("two", NOTE)})
    assert panel.key == "two" and "It is small" in panel.text.toPlainText()
    panel.set_reports({})
    assert panel.key == "" and not panel.choice.isEnabled()


def test_only_what_matters_is_flagged() -> None:
    assert not has_warnings(report("one", NOTE))
    assert has_warnings(report("one", RSLORA))
    assert has_warnings(report("one", unmatched=("x",)))
    assert summary(report("one", NOTE, RSLORA)) == "4 of 4 modules matched, 1 warning"
