"""The log panel."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import pytest
from PySide6.QtGui import QGuiApplication

from studio.gui.log_panel import LogLine, LogPanel

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def panel(qtbot: QtBot) -> LogPanel:
    panel = LogPanel()
    qtbot.addWidget(panel)
    for level, text in ((logging.DEBUG, "probe"), (logging.INFO, "opened"), (logging.ERROR, "broken")):
        panel.append(LogLine(0.0, level, "studio.jobs", text))
    return panel


def shown(panel: LogPanel) -> list[str]:
    return [line.split("\t")[-1] for line in panel.text.toPlainText().splitlines()]


def test_levels_filter_old_lines_and_new_ones(panel: LogPanel) -> None:
    assert shown(panel) == ["studio.jobs: opened", "studio.jobs: broken"]
    panel.level_box.setCurrentIndex(0)
    assert shown(panel) == ["studio.jobs: probe", "studio.jobs: opened", "studio.jobs: broken"]
    panel.level_box.setCurrentIndex(3)
    panel.append(LogLine(1.0, logging.INFO, "studio.jobs", "closed"))
    assert shown(panel) == ["studio.jobs: broken"]


def test_what_is_shown_is_copied(panel: LogPanel) -> None:
    panel.copy_button.click()
    lines = QGuiApplication.clipboard().text().splitlines()
    assert [line.split("  ")[1:] for line in lines] == [
        ["info", "studio.jobs: opened"],
        ["error", "studio.jobs: broken"],
    ]


def test_clear(panel: LogPanel) -> None:
    panel.clear_button.click()
    panel.level_box.setCurrentIndex(0)
    assert shown(panel) == []
