"""Which device computes: the Engine menu, and the way from a GPU that failed to the CPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from PySide6.QtCore import QObject

from studio.contracts import Progress
from studio.engine.backend import choose_backend
from studio.engine.cupy_backend import DeviceFailedError
from studio.engine.devices import list_devices
from studio.engine.local import LocalEngine
from studio.gui import questions
from studio.gui.device_menu import DeviceLine

if TYPE_CHECKING:
    from collections.abc import Generator

    from studio.contracts import BaseModel
    from studio.engine.devices import Device
    from studio.engine.residency import Residency
    from studio.errors import StudioError
    from studio.gui.bridge import Bridge
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.controllers.live import LiveController
    from studio.gui.main_window import MainWindow
    from studio.jobs.engine_thread import EngineThread
    from studio.jobs.job import Job
    from studio.session.session import Session


def _make_engine(
    device: str, weights: Residency, base: BaseModel | None
) -> Generator[Progress, None, LocalEngine]:
    """Work that probes the device and loads the weights there, and returns the engine that has them."""
    yield Progress(0, 2, "Probing the device")
    engine = LocalEngine(choose_backend(device), weights)
    if base is not None:
        yield Progress(1, 2, "Loading the weights")
        engine.open(base)
    return engine


def _look_for_devices() -> Generator[Progress, None, list[Device]]:
    yield Progress(0, 1, "Asking the driver")
    return list_devices()


class EnginesController(QObject):
    """Exchanges the engine under the session: the old one serves until the new one has its weights."""

    def __init__(
        self,
        session: Session,
        engine: EngineThread,
        jobs: JobsController,
        live: LiveController,
        window: MainWindow,
        bridge: Bridge,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._engine = engine
        self._jobs = jobs
        self._live = live
        self._window = window
        self._menu = window.menus.devices
        self._device = "auto"
        self._weights: Residency = "auto"
        self._asked: Job | None = None
        self._menu.aboutToShow.connect(self.look)
        self._menu.device_chosen.connect(lambda device: self.choose(device, self._weights))
        self._menu.weights_chosen.connect(
            lambda weights: self.choose(self._device, cast("Residency", weights))
        )
        bridge.every(engine.failed, self._offer_cpu)
        self.look()

    def look(self) -> None:
        """Bring the menu's devices and their free memory up to date."""
        self._jobs.run("Look for devices", _look_for_devices(), self._show_devices, aside=True)

    def choose(self, device: str, weights: Residency) -> None:
        """Compute on this device, with its weights so, from now on; where that fails nothing changes."""
        base = self._session.base
        if self._asked is not None:
            self._asked.cancel()  # the newest choice counts

        def take(engine: LocalEngine) -> None:
            if self._asked is job:
                self._take(device, weights, engine, base)

        job = self._asked = self._jobs.run("Choose the device", _make_engine(device, weights, base), take)

    def _take(self, device: str, weights: Residency, engine: LocalEngine, base: BaseModel | None) -> None:
        self._device, self._weights = device, weights
        self._menu.set_choice(device, weights)
        self._engine.switch_engine(engine, base)
        self._window.set_engine(engine.description)
        self._live.refresh()

    def _show_devices(self, devices: list[Device]) -> None:
        self._menu.set_devices([DeviceLine(**vars(device)) for device in devices])

    def _offer_cpu(self, error: StudioError) -> None:
        """Ask whether to go on without the GPU when it was the device that failed."""
        if isinstance(error, DeviceFailedError) and questions.use_cpu(self._window, error.message):
            self.choose("numpy", self._weights if self._weights != "float16" else "auto")
