"""Closing asks about work under way and about unsaved changes, then leaves no thread behind."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from studio.contracts import Progress
from studio.gui import questions

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from pytestqt.qtbot import QtBot

    from studio.gui.desk import Desk


def endless(ended: list[str]) -> Generator[Progress, None, None]:
    """Work that ends only when it is cancelled."""
    try:
        while True:
            time.sleep(0.005)
            yield Progress(1, 2)
    finally:
        ended.append("cleaned up")


def threads() -> set[str]:
    return {
        thread.name for thread in threading.enumerate() if thread.name.startswith(("engine", "job worker"))
    }


def test_closing_mid_job_asks_cancels_and_joins(
    empty_desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[str] = []
    asked: list[list[str]] = []
    answers = iter([False, True])

    def stop_jobs(parent: object, titles: list[str]) -> bool:
        asked.append(titles)
        return next(answers)

    monkeypatch.setattr(questions, "stop_jobs", stop_jobs)
    job = empty_desk.jobs.run("Export", endless(ended), lambda result: None)
    qtbot.waitUntil(lambda: job.state == "running")

    empty_desk.window.close()
    assert empty_desk.window.isVisible()  # the user said no
    assert ended == []
    empty_desk.window.close()
    assert asked == [["Export"], ["Export"]]
    assert ended == ["cleaned up"]
    assert job.finished
    assert threads() == set()


def test_a_job_is_cancelled_from_the_panel(empty_desk: Desk, qtbot: QtBot) -> None:
    ended: list[str] = []
    job = empty_desk.jobs.run("Export", endless(ended), lambda result: None)
    qtbot.waitUntil(lambda: bool(empty_desk.window.jobs.rows))
    next(iter(empty_desk.window.jobs.rows.values())).cancel_button.click()
    qtbot.waitUntil(lambda: job.state == "cancelled")
    qtbot.waitUntil(lambda: not empty_desk.jobs.busy)
    assert ended == ["cleaned up"]


def test_short_work_that_nobody_asked_for_is_not_listed(
    empty_desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(seconds: float) -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        time.sleep(seconds)

    def failing() -> Generator[Progress, None, None]:
        yield Progress(0, 1)
        raise ValueError

    monkeypatch.setattr("studio.gui.controllers.jobs.LISTED_MS", 50)
    jobs = empty_desk.jobs
    jobs.run("Short", work(0), lambda result: None, aside=True)
    jobs.run("Long", work(0.3), lambda result: None, aside=True)
    jobs.run("Failing", failing(), lambda result: None, aside=True)
    jobs.run("Wanted", work(0), lambda result: None)

    def titles() -> set[str]:
        return {row.job.title for row in empty_desk.window.jobs.rows.values()}

    qtbot.waitUntil(lambda: "Long" in titles())
    qtbot.waitUntil(lambda: not jobs.busy)
    assert titles() == {"Failing", "Wanted"}  # what went well and was not asked for is gone again


def test_a_job_that_dies_is_reported(empty_desk: Desk, qtbot: QtBot) -> None:
    def dying() -> Generator[Progress, None, None]:
        yield Progress(0, 0)
        raise SystemExit("a plugin wanted out")

    with qtbot.waitSignal(empty_desk.notices.failed) as failed:
        empty_desk.jobs.run("Merge", dying(), lambda result: None)
    assert failed.args is not None
    assert "a plugin wanted out" in failed.args[0]


@pytest.mark.parametrize(("answer", "closes"), [("cancel", False), ("discard", True)])
def test_unsaved_changes_are_asked_about(
    desk: Desk, monkeypatch: pytest.MonkeyPatch, answer: str, closes: bool
) -> None:
    monkeypatch.setattr(questions, "save_changes", lambda parent, name: answer)
    assert desk.window.isWindowModified()
    desk.window.close()
    assert desk.window.isVisible() != closes


def test_saving_on_the_way_out(
    desk: Desk, qtbot: QtBot, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    desk.session.mark_saved(tmp_path / "mine.lorastudio.json")
    desk.window.stack.rows["adapter"].number.setValue(0.125)
    monkeypatch.setattr(questions, "save_changes", lambda parent, name: "save")
    closed: list[bool] = []
    desk.window.destroyed.connect(lambda: closed.append(True))
    desk.window.close()
    assert desk.window.isVisible()  # until the file is written
    qtbot.waitUntil(lambda: bool(closed))
    assert "0.125" in (tmp_path / "mine.lorastudio.json").read_text()


def test_closing_while_generating(desk: Desk) -> None:
    desk.window.generation.sampling_changed.emit(desk.session.sampling.__class__(max_tokens=120))
    desk.window.commands.generate.trigger()
    desk.close()
    assert threads() == set()


def test_closing_at_once_after_opening(
    empty_desk: Desk, qtbot: QtBot, write_base: Callable[..., Path]
) -> None:
    empty_desk.models.open_base(write_base())
    qtbot.waitUntil(lambda: empty_desk.session.base is not None)
    empty_desk.close()
    qtbot.wait(60)  # nothing wakes up later and asks for work
    assert threads() == set()
