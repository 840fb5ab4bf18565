"""The jobs panel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from studio.gui.jobs_panel import JobsPanel, JobStatus, duration, state_text

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def panel(qtbot: QtBot) -> JobsPanel:
    panel = JobsPanel()
    qtbot.addWidget(panel)
    panel.show()
    return panel


@pytest.mark.parametrize(("seconds", "text"), [(41.3, "0:41"), (3723, "1:02:03"), (0, "0:00"), (-1, "0:00")])
def test_time_left(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_where_a_job_stands() -> None:
    assert state_text(JobStatus("1", "Export", "running", 0.62, 41.3)) == "62 % · 0:41 left"
    assert state_text(JobStatus("1", "Export", "running")) == "running"
    assert state_text(JobStatus("1", "Export", "failed")) == "failed"


def test_a_job_has_one_line_from_start_to_end(panel: JobsPanel) -> None:
    panel.set_job(JobStatus("1", "Export", "running", 0.5))
    row = panel.rows["1"]
    assert row.bar.value() == row.bar.maximum() // 2
    panel.set_job(JobStatus("1", "Export", "done"))
    assert panel.rows["1"] is row
    assert row.bar.value() == row.bar.maximum()
    assert not row.cancel_button.isVisible()


def test_unknown_progress_is_a_busy_bar(panel: JobsPanel) -> None:
    panel.set_job(JobStatus("1", "Open", "running"))
    assert panel.rows["1"].bar.maximum() == 0


def test_cancel_and_report_name_their_job(panel: JobsPanel, qtbot: QtBot) -> None:
    panel.set_job(JobStatus("1", "Export", "running"))
    panel.set_job(JobStatus("2", "Open", "failed", message="not a GGUF file"))
    with qtbot.waitSignal(panel.cancel_requested) as cancelled:
        panel.rows["1"].cancel_button.click()
    with qtbot.waitSignal(panel.report_requested) as reported:
        panel.rows["2"].report_button.click()
    assert (cancelled.args, reported.args) == (["1"], ["2"])


def test_clearing_keeps_what_still_runs(panel: JobsPanel) -> None:
    panel.set_job(JobStatus("1", "Export", "running"))
    panel.set_job(JobStatus("2", "Open", "cancelled"))
    panel.clear_button.click()
    assert list(panel.rows) == ["1"]
    assert not panel.clear_button.isEnabled()
