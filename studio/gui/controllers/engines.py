"""Which device computes: the Engine menu, and the way from a GPU that failed to the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtCore import QObject

from studio.contracts import Progress
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.errors import EngineError
from studio.gui import questions

if TYPE_CHECKING:
    from collections.abc import Generator

    from studio.errors import StudioError
    from studio.gui.actions import BackendName
    from studio.gui.bridge import Bridge
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.controllers.live import LiveController
    from studio.gui.main_window import MainWindow
    from studio.jobs.engine_thread import EngineThread


def _make_engine(name: BackendName) -> Generator[Progress, None, LocalEngine]:
    """Work that probes the device, which may take seconds, and returns an engine on it."""
    yield Progress(0, 1, "Probing the device")
    return LocalEngine(choose_backend(name))


class EnginesController(QObject):
    """Exchanges the engine under the session, which stays as it is."""

    def __init__(
        self,
        engine: EngineThread,
        jobs: JobsController,
        live: LiveController,
        window: MainWindow,
        bridge: Bridge,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._engine = engine
        self._jobs = jobs
        self._live = live
        self._window = window
        self._backend: BackendName = "auto"
        for name, action in window.commands.backends.items():
            action.triggered.connect(lambda _, name=name: self.choose(name))
        bridge.every(engine.failed, self._offer_cpu)

    def choose(self, name: BackendName) -> None:
        """Compute on another device from now on; one that does not answer changes nothing."""
        self._window.commands.backends[self._backend].setChecked(True)  # until the other one answers
        self._jobs.run("Choose the device", _make_engine(name), lambda engine: self._take(name, engine))

    def _take(self, name: BackendName, engine: LocalEngine) -> None:
        self._backend = name
        self._window.commands.backends[name].setChecked(True)
        self._engine.switch_engine(engine)
        self._window.set_engine(engine.description)
        self._live.refresh()

    def _offer_cpu(self, error: StudioError) -> None:
        """Ask whether to go on without the GPU when it was the device that failed."""
        failed = isinstance(error, EngineError) and isinstance(error.__cause__, (MemoryError, RuntimeError))
        on_gpu = self._engine.description.startswith("CuPy")
        if failed and on_gpu and questions.use_cpu(self._window, error.message):
            self.choose("numpy")
