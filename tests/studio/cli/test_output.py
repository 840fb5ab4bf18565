"""Long work says how far it is, on a terminal and elsewhere."""

from __future__ import annotations

import time
from collections.abc import Generator

import pytest

from studio.cli import output
from studio.cli.output import finish
from studio.contracts import Progress


def work(seconds: float) -> Generator[Progress, None, str]:
    yield Progress(1, 4, "Evaluating")
    time.sleep(seconds)
    return "done"


def test_elsewhere_a_long_step_reports_now_and_then(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(output, "REPORT_SECONDS", 0.05)
    assert finish(work(0.3)) == "done"
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[0].startswith(" 25 % Evaluating (")


def test_short_work_is_silent(capsys: pytest.CaptureFixture[str]) -> None:
    assert finish(work(0)) == "done"
    assert capsys.readouterr().err == ""


def test_a_terminal_shows_each_step_on_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    assert finish(work(0)) == "done"
    assert capsys.readouterr().err == "\r\x1b[K 25 % Evaluating\r\x1b[K"
