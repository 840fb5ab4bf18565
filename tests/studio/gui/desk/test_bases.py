"""What belongs to a base goes with it: its measuring, and the options its adapters were read with."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PySide6.QtWidgets import QSpinBox

from studio.gui.options_dialog import OptionsDialog
from studio.jobs.opening import open_base
from studio.registry import Registry

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot

    from studio.contracts import AdapterLoader, BaseModel, FloatArray
    from studio.gui.desk import Desk
    from studio.jobs.job import Job


class SlowBase:
    """A base whose weights come one by one, each when it is let through."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self.asked, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)

    def dense(self, name: str) -> FloatArray:
        self.asked.set()
        self.go_on.wait(5)
        return self._base.dense(name)


def test_weighing_ends_when_another_base_comes(
    desk: Desk,
    qtbot: QtBot,
    plugins: Registry,
    monkeypatch: pytest.MonkeyPatch,
    write_base: Callable[..., Path],
) -> None:
    jobs: list[Job] = []
    run = desk.jobs.run

    def keep(*arguments: Any, **options: Any) -> Job:
        jobs.append(run(*arguments, **options))
        return jobs[-1]

    monkeypatch.setattr(desk.jobs, "run", keep)
    opening = open_base(write_base("odd.gguf", architecture="oddity"), plugins)
    with pytest.raises(StopIteration) as end:
        while True:
            next(opening)
    slow = SlowBase(end.value.value.base)
    desk.session.set_base(replace(end.value.value, base=slow))
    assert slow.asked.wait(5)
    desk.models.open_base(write_base("even.gguf"))
    qtbot.waitUntil(lambda: desk.session.base is not None and desk.session.base.name == "even")
    slow.go_on.set()
    weighing = next(job for job in jobs if job.title == "Weigh odd")
    qtbot.waitUntil(lambda: weighing.finished)
    assert weighing.state == "cancelled"
    slow.close()


class LayersLoader:
    """Reads what another loader reads, and keeps the options that it was given."""

    name = "with options"

    @dataclass(frozen=True)
    class Options:
        layers: int = 2

    def __init__(self, inner: AdapterLoader) -> None:
        self._inner = inner
        self.given: list[Any] = []

    def recognises(self, path: Path) -> bool:
        return self._inner.recognises(path)

    def load(self, path: Path, base: BaseModel | None, options: Any) -> Any:
        self.given.append(options)
        return self._inner.load(path, base, self._inner.Options())


def test_an_adapter_is_added_with_options(
    make_desk: Callable[[Registry], Desk],
    qtbot: QtBot,
    plugins: Registry,
    write_base: Callable[..., Path],
    write_adapter: Callable[..., Path],
) -> None:
    loader = LayersLoader(next(one for one in plugins.adapter_loaders if "GGUF" in one.name))
    desk = make_desk(replace(plugins, adapter_loaders=(loader,)))
    assert not desk.window.commands.add_with_options.isEnabled()
    desk.models.open_base(write_base())
    qtbot.waitUntil(lambda: desk.session.base is not None)
    desk.models.ask_options(write_adapter())
    qtbot.waitUntil(lambda: desk.window.findChild(OptionsDialog) is not None)
    dialog = desk.window.findChild(OptionsDialog)
    assert isinstance(dialog, OptionsDialog)
    field = dialog.form.findChild(QSpinBox, "layers")
    assert isinstance(field, QSpinBox)
    field.setValue(1)
    dialog.accept()
    qtbot.waitUntil(lambda: len(desk.session.stack) == 1)
    desk.models.open_base(write_base("other.gguf"))
    qtbot.waitUntil(lambda: desk.session.base is not None and desk.session.base.name == "other")
    assert loader.given == [loader.Options(layers=1)] * 2


def test_a_loader_without_options_adds_at_once(
    desk: Desk, qtbot: QtBot, write_adapter: Callable[..., Path]
) -> None:
    desk.models.ask_options(write_adapter("second.gguf"))
    qtbot.waitUntil(lambda: len(desk.session.stack) == 2)
