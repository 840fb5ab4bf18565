"""The desk: one session, the threads that compute for it, the window, and what connects them."""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, QTimer
from PySide6.QtWidgets import QApplication

from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.gui import questions
from studio.gui.appearance import Appearance
from studio.gui.bridge import Bridge
from studio.gui.controllers.combining import CombiningController
from studio.gui.controllers.engines import EnginesController
from studio.gui.controllers.exports import ExportsController
from studio.gui.controllers.gains import GainsController
from studio.gui.controllers.jobs import JobsController
from studio.gui.controllers.landscape import LandscapeController
from studio.gui.controllers.live import LiveController
from studio.gui.controllers.models import ModelsController
from studio.gui.controllers.norms import NormsController
from studio.gui.controllers.plugins import PluginsController
from studio.gui.controllers.prompt import PromptController
from studio.gui.controllers.reports import ReportsController
from studio.gui.controllers.searching import SearchingController
from studio.gui.controllers.sensitivity import SensitivityController
from studio.gui.controllers.sessions import SessionsController
from studio.gui.controllers.stack import StackController
from studio.gui.controllers.training import TrainingController
from studio.gui.controllers.wanted import WantedController
from studio.gui.display import choose_platform
from studio.gui.frame import OncePerFrame
from studio.gui.guide import show_about, show_guide
from studio.gui.main_window import MainWindow
from studio.gui.notices import LogBridge, Notices
from studio.gui.qt_messages import route_qt_messages
from studio.gui.settings import Settings
from studio.jobs.engine_thread import EngineThread
from studio.registry import load_plugins
from studio.resources import demo_session
from studio.session.session import Session

if TYPE_CHECKING:
    from pathlib import Path

    from studio.contracts import Engine, Plugins


class Desk(QObject):
    """Builds everything and takes it down again.

    Parameters
    ----------
    app
        The running application.
    plugins
        What the plugins offer.
    engine
        The engine; by default the local one on the best backend here.
    settings
        What is remembered between runs; by default the user's.
    """

    def __init__(
        self,
        app: QApplication,
        plugins: Plugins,
        *,
        engine: Engine | None = None,
        settings: Settings | None = None,
    ) -> None:
        super().__init__()
        self.session = Session()
        self.settings = settings or Settings()
        self.engine = EngineThread(engine or LocalEngine(choose_backend("auto")))
        self.bridge = Bridge(self)
        self.window = MainWindow()
        self.notices = Notices(self.window, self.window.toast)
        self._log = LogBridge(self.window.log)
        self._closed = False

        session, window, bridge, notices = self.session, self.window, self.bridge, self.notices
        self.appearance = Appearance(app, self.settings, window.commands, self)
        self.jobs = JobsController(window.jobs, bridge, notices, self)
        self.norms = NormsController(session, self.jobs, window.heatmap, self)
        self.stack = StackController(session, self.norms, window, self)
        self.gains = GainsController(session, window, self)
        self.prompt = PromptController(session, self.engine, window, bridge, notices, self)
        self.live = LiveController(session, self.engine, window, bridge, notices, self)
        self.engines = EnginesController(session, self.engine, self.jobs, self.live, window, bridge, self)
        self.models = ModelsController(session, self.jobs, plugins, window, notices, self)
        self.reports = ReportsController(session, window, self)
        self.sessions = SessionsController(session, self.jobs, plugins, window, notices, self.settings, self)
        self.exports = ExportsController(session, self.jobs, self.norms, plugins, window, notices, self)
        self.combining = CombiningController(session, self.jobs, self.exports, plugins, window, notices, self)
        self.training = TrainingController(session, self.engine, self.jobs, plugins, window, notices, self)
        self.wanted = WantedController(session, self.engine, self)
        self.searching = SearchingController(session, self.jobs, self.wanted, window, notices, self)
        self.sensitivity = SensitivityController(
            session, self.jobs, self.norms, self.wanted, window, notices, self
        )
        self.landscape = LandscapeController(session, self.jobs, self.wanted, window, notices, self)
        self.plugins = PluginsController(session, plugins, window, notices, self)

        self.models.may_leave = self.sessions.may_leave = self.training.may_leave
        self.models.opened.connect(self.sessions.remember)
        self.models.added.connect(self.reports.tell)
        self.models.session_dropped.connect(self.sessions.open)
        self.sessions.path_chosen.connect(lambda path: self.models.open_paths([path]))
        window.commands.quit.triggered.connect(window.close)
        window.commands.about.triggered.connect(lambda: show_about(window))
        window.commands.guide.triggered.connect(lambda: show_guide(window))
        window.may_close = self._may_close
        if self.settings.layout is not None:
            window.restore_layout(self.settings.layout)

    def close(self) -> None:
        """Cancel all work, wait for its threads, and let go of everything. No questions are asked."""
        if self._closed:
            return
        self._closed = True
        self.bridge.close()
        for frame in self.findChildren(OncePerFrame):
            frame.stop()
        self.engine.stop_generation()
        self.jobs.close()
        self.engine.close()
        self._log.close()
        self.window.hide()
        self.window.deleteLater()
        self.deleteLater()

    def _may_close(self) -> bool:
        """Ask what has to be asked, then take the desk down."""
        titles = [job.title for job in self.jobs.wanted]
        if titles and not questions.stop_jobs(self.window, titles):
            return False
        if self.session.modified:
            answer = questions.save_changes(self.window, self.sessions.name)
            if answer == "save":
                self.sessions.save(then=self.window.close)  # comes back here once it is saved
            if answer != "discard":
                return False
        self.settings.layout = self.window.layout_state()
        self.close()
        return True


def run_desk(session: Path | None = None, *, safe_mode: bool = False) -> int:
    """Open the desk, with a session file or the demo, and return the exit code once it is closed."""
    app = application()
    desk = Desk(app, load_plugins(safe_mode))
    window, notices = desk.window, desk.notices
    previous_hook, sys.excepthook = sys.excepthook, notices.unexpected
    previous_handler = signal.signal(signal.SIGINT, lambda *_: window.close())
    pulse = QTimer()  # lets Python look for Ctrl-C while Qt waits for events
    pulse.timeout.connect(lambda: None)
    pulse.start(200)
    window.show()
    path = session or demo_session()
    desk.sessions.open(path, template=path == demo_session())
    try:
        return app.exec()
    finally:
        pulse.stop()
        signal.signal(signal.SIGINT, previous_handler)
        sys.excepthook = previous_hook
        desk.close()


def application() -> QApplication:
    """Return the one QApplication; it draws offscreen where there is no display."""
    choose_platform()
    route_qt_messages()
    app = QApplication.instance()
    if not isinstance(app, QApplication):
        app = QApplication(sys.argv[:1])
        app.setApplicationName("LoRA Studio")
        app.setApplicationDisplayName("LoRA Studio")
        app.setDesktopFileName("lora-studio")
    return app
