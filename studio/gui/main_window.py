"""The main window: the views in their docks, the menus, the status bar. It knows no session."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import Qt, QTimer, Signal
from PySide6.QtWidgets import QDockWidget, QLabel, QMainWindow, QWidget

from studio.gui.actions import Actions, Menus
from studio.gui.generation_panel import GenerationPanel
from studio.gui.heatmap_view import HeatmapView
from studio.gui.jobs_panel import JobsPanel
from studio.gui.log_panel import LogPanel
from studio.gui.next_token_view import NextTokenView
from studio.gui.pane import Pane
from studio.gui.plugins_panel import PluginsPanel
from studio.gui.prompt_panel import PromptPanel
from studio.gui.report_panel import ReportPanel
from studio.gui.run_panel import RunPanel
from studio.gui.stack_panel import StackPanel
from studio.gui.toast import Toast

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtCore import QByteArray
    from PySide6.QtGui import QCloseEvent, QDragEnterEvent, QDropEvent, QShowEvent

TITLE = "LoRA Studio"


class MainWindow(QMainWindow):
    """Holds the views by name; what they show and what their signals do is the controllers' matter."""

    paths_dropped = Signal(list)
    """(list[Path]): files or folders dropped anywhere on the window."""

    def __init__(self) -> None:
        super().__init__()
        self.may_close: Callable[[], bool] = lambda: True
        """Asked before the window closes."""
        self.stack = StackPanel()
        self.prompt = PromptPanel()
        self.next_token = NextTokenView()
        self.generation = GenerationPanel()
        self.heatmap = HeatmapView()
        self.run = RunPanel()
        self.jobs = JobsPanel()
        self.log = LogPanel()
        self.plugins = PluginsPanel()
        self.report = ReportPanel()
        self.docks = self._lay_out()
        self._is_laid_out = False
        self.commands = Actions(self)
        self.menus = Menus(self, self.commands, self.docks.values())
        self.toast = Toast(self)
        self._base = QLabel("No base open")
        self._plugins = QLabel()
        self._engine = QLabel()
        self._latency = QLabel()
        self._fill_status_bar()
        self.setAcceptDrops(True)
        self.set_document("", modified=False)

    def set_document(self, name: str, *, modified: bool) -> None:
        """Show the session's name, and whether it has unsaved changes, in the title."""
        self.setWindowTitle(f"{name or 'Untitled'}[*] — {TITLE}")
        self.setWindowModified(modified)

    def set_base(self, text: str) -> None:
        """Show the base, such as ``SmolLM2-135M · llama · Q4_1 · 98 MB``."""
        self._base.setText(text)

    @property
    def latency_text(self) -> str:
        """What the status bar says of the last evaluation."""
        return self._latency.text()

    @property
    def plugins_text(self) -> str:
        """What the status bar says of the plugins."""
        return self._plugins.text()

    @property
    def base_text(self) -> str:
        """What the status bar says of the base."""
        return self._base.text()

    def set_engine(self, description: str) -> None:
        """Show which backend runs and why."""
        self._engine.setText(description)

    def set_latency(self, milliseconds: float | None, *, busy: bool) -> None:
        """Show how long the last evaluation took, and whether one is under way."""
        sign = "○" if busy else "●"
        self._latency.setText(f"{sign} —" if milliseconds is None else f"{sign} {milliseconds:.0f} ms")

    def set_plugins_summary(self, text: str) -> None:
        """Show how many plugins there are and how many failed."""
        self._plugins.setText(text)

    def add_panel(self, title: str, widget: QWidget) -> QDockWidget:
        """Add a plugin's panel as a dock."""
        dock = self._dock(title, widget)
        self.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, dock)
        self.tabifyDockWidget(self.docks["jobs"], dock)
        dock.show()
        dock.raise_()
        return dock

    def layout_state(self) -> tuple[QByteArray, QByteArray]:
        """Return the window's geometry and the docks' places."""
        return self.saveGeometry(), self.saveState()

    def restore_layout(self, layout: tuple[QByteArray, QByteArray]) -> None:
        """Return to a layout of an earlier run."""
        self._is_laid_out = True
        self.restoreGeometry(layout[0])
        self.restoreState(layout[1])

    def showEvent(self, event: QShowEvent) -> None:
        """Share the room out when first seen: a theme that came before changed what the docks want."""
        super().showEvent(event)
        if not self._is_laid_out:
            self._is_laid_out = True
            QTimer.singleShot(0, self, self._share_room)  # once the docks have laid themselves out

    def closeEvent(self, event: QCloseEvent) -> None:
        """Close only when nothing would be lost."""
        event.setAccepted(self.may_close())

    def dragEnterEvent(self, event: QDragEnterEvent) -> None:
        """Take files and folders."""
        if event.mimeData().hasUrls():
            event.acceptProposedAction()

    def dropEvent(self, event: QDropEvent) -> None:
        """Hand dropped files on."""
        paths = [Path(url.toLocalFile()) for url in event.mimeData().urls() if url.isLocalFile()]
        if paths:
            event.acceptProposedAction()
            self.paths_dropped.emit(paths)

    def _lay_out(self) -> dict[str, QDockWidget]:
        """Put every view in a dock: stack, prompt over generation, next token; below, heatmap and lists."""
        self.setDockNestingEnabled(True)
        docks = {
            "stack": self._dock("Stack", self.stack),
            "prompt": self._dock("Prompt", self.prompt),
            "next token": self._dock("Next token", self.next_token),
            "generation": self._dock("Generation", self.generation),
            "heatmap": self._dock("Heatmap", self.heatmap),
            "training": self._dock("Training", self.run),
            "jobs": self._dock("Jobs", self.jobs),
            "plugins": self._dock("Plugins", self.plugins),
            "log": self._dock("Log", self.log),
            "report": self._dock("Report", self.report),
        }
        top, bottom = Qt.DockWidgetArea.TopDockWidgetArea, Qt.DockWidgetArea.BottomDockWidgetArea
        across, down = Qt.Orientation.Horizontal, Qt.Orientation.Vertical
        self.addDockWidget(top, docks["stack"])
        self.splitDockWidget(docks["stack"], docks["prompt"], across)
        self.splitDockWidget(docks["prompt"], docks["next token"], across)
        self.splitDockWidget(docks["prompt"], docks["generation"], down)
        self.addDockWidget(bottom, docks["heatmap"])
        self.splitDockWidget(docks["heatmap"], docks["jobs"], across)
        self.tabifyDockWidget(docks["jobs"], docks["log"])
        self.tabifyDockWidget(docks["log"], docks["plugins"])
        self.tabifyDockWidget(docks["plugins"], docks["report"])
        self.tabifyDockWidget(docks["heatmap"], docks["training"])
        docks["jobs"].raise_()
        docks["heatmap"].raise_()
        return docks

    def _share_room(self) -> None:
        """Give each dock its share of the window."""
        docks, across, down = self.docks, Qt.Orientation.Horizontal, Qt.Orientation.Vertical
        self.resizeDocks([docks["stack"], docks["prompt"], docks["next token"]], [380, 620, 440], across)
        self.resizeDocks([docks["prompt"], docks["generation"]], [180, 330], down)
        self.resizeDocks([docks["heatmap"], docks["jobs"]], [960, 480], across)
        self.resizeDocks([docks["stack"], docks["heatmap"]], [540, 260], down)

    def _dock(self, title: str, widget: QWidget) -> QDockWidget:
        dock = QDockWidget(title, self)
        dock.setObjectName(title)  # names it in a saved layout
        dock.setWidget(Pane(widget))
        return dock

    def _fill_status_bar(self) -> None:
        bar = self.statusBar()
        bar.setSizeGripEnabled(False)
        names = {
            "Base": self._base,
            "Plugins": self._plugins,
            "Engine": self._engine,
            "Latency": self._latency,
        }
        for name, label in names.items():
            label.setAccessibleName(name)
            label.setContentsMargins(6, 0, 6, 0)
        bar.addWidget(self._base, 1)
        for label in (self._plugins, self._engine, self._latency):
            bar.addPermanentWidget(label)
