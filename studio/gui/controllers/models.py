"""Opening bases and adapters: every file is read in a job, and nothing changes when that fails."""

from __future__ import annotations

import logging
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt, Signal
from PySide6.QtWidgets import QFileDialog

from studio.contracts import Progress
from studio.gui.options_dialog import OptionsDialog
from studio.gui.recognise import Kind, recognise
from studio.gui.report_panel import summary
from studio.jobs.opening import NO_OPTIONS, adapter_loader, load_adapter, open_base

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from studio.contracts import AdapterLoader, BaseModel, Plugins
    from studio.errors import StudioError
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.job import Job
    from studio.lora.report import AdapterReport
    from studio.session.opened import LoadedAdapter, OpenedBase
    from studio.session.session import Session

log = logging.getLogger(__name__)


class ModelsController(QObject):
    """Opens bases and adds adapters, chosen in a dialog or dropped on the window."""

    opened = Signal(Path)
    """(path): a base or an adapter was opened."""
    added = Signal(str)
    """(key): an adapter is on the stack now."""
    session_dropped = Signal(Path)
    """(path): what was dropped is a session file."""

    def __init__(
        self,
        session: Session,
        jobs: JobsController,
        plugins: Plugins,
        window: MainWindow,
        notices: Notices,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._jobs = jobs
        self._plugins = plugins
        self._window = window
        self._notices = notices
        self._opening: Job | None = None
        self.may_leave: Callable[[], bool] = lambda: True
        """Asked before another base is opened."""
        window.commands.open_base.triggered.connect(self._choose_base)
        window.commands.add_adapter.triggered.connect(self._choose_adapters)
        window.commands.add_adapter_folder.triggered.connect(self._choose_adapter_folder)
        window.commands.add_with_options.triggered.connect(self._choose_with_options)
        window.stack.add_requested.connect(self._choose_adapters)
        window.stack.paths_dropped.connect(self.open_paths)
        window.paths_dropped.connect(self.open_paths)
        session.base_changed.connect(self._show_base)
        self._show_base()

    def open_base(self, location: str | Path) -> None:
        """Open a base in place of the present one; the adapters on the stack are read again for it."""
        if not self.may_leave():
            return
        if self._opening is not None:
            self._opening.cancel()  # the later choice counts
        sources = self._session.sources
        self._opening = self._jobs.run(
            f"Open {Path(location).name}", open_base(location, self._plugins, sources), self._take_base
        )

    def add_adapter(self, location: str | Path, options: Mapping[str, object] = NO_OPTIONS) -> None:
        """Read an adapter for the base, with these options of its loader, and put it on the stack."""
        base = self._session.base
        if base is None:
            self._notices.warn("Open a base model first: adapters are read for their base")
            return
        title = f"Add {Path(location).name}"
        self._jobs.run(
            title,
            load_adapter(location, base, self._plugins, options),
            lambda loaded: self._take_adapter(loaded, base),
            failed=lambda error: self._take_failure(title, Path(location), error),
        )

    def ask_options(self, path: Path) -> None:
        """Ask for the options of the loader that recognises an adapter, and add it; many have none."""

        def ask(loader: AdapterLoader) -> None:
            if fields(loader.Options):
                self._ask(loader, path)
            else:
                self._notices.info(f"{loader.name} has no options")
                self.add_adapter(path)

        self._jobs.run(f"Recognise {path.name}", _find_loader(path, self._plugins), ask, aside=True)

    def _take_failure(self, title: str, path: Path, error: StudioError) -> None:
        """Offer the option that was wanting, where the error names one of the loader's; else report it."""

        def offer(loader: AdapterLoader) -> None:
            if error.where in [field.name for field in fields(loader.Options)]:
                self._ask(loader, path, error)
            else:
                self._notices.error(title, error)

        if error.where is None or not error.where.isidentifier():
            self._notices.error(title, error)
            return
        self._jobs.run(f"Recognise {path.name}", _find_loader(path, self._plugins), offer, aside=True)

    def _ask(self, loader: AdapterLoader, path: Path, error: StudioError | None = None) -> None:
        dialog = OptionsDialog(loader, path, self._window, error=error)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self.add_adapter(path, dialog.values))
        dialog.open()

    def open_paths(self, paths: Sequence[Path]) -> None:
        """Open files and folders by what they contain."""
        self._jobs.run("Recognise files", recognise(paths, self._plugins), self._take_paths, aside=True)

    def _take_base(self, opened: OpenedBase) -> None:
        self._opening = None
        self._session.set_base(opened)
        self._notices.info(f"Opened {opened.base.name}")
        for loaded in opened.adapters:
            log_report(loaded.report)
        for failure in opened.failures:
            self._notices.error("An adapter does not fit this base", failure)
        if opened.tokenizer_error is not None:
            self._notices.error("This base takes no text", opened.tokenizer_error)
        self.opened.emit(opened.base.path)

    def _take_adapter(self, loaded: LoadedAdapter, base: BaseModel) -> None:
        if base is not self._session.base:  # another base came first: read it for that one
            self.add_adapter(loaded.location, loaded.options)
            return
        key = self._session.add_adapter(loaded)
        log_report(loaded.report)
        report = loaded.report
        if report.unmatched:
            self._notices.warn(f"{report.name}: only {summary(report)}")
        else:
            self._notices.info(f"Added {report.name}: {summary(report)}")
        self.added.emit(key)
        self.opened.emit(Path(loaded.location))

    def _take_paths(self, kinds: Sequence[tuple[Path, Kind]]) -> None:
        for path, kind in kinds:
            if kind == "base":
                self.open_base(path)
            elif kind == "session":
                self.session_dropped.emit(path)
            elif kind == "adapter" or path.is_dir():
                self.add_adapter(path)  # a folder of another kind is told so by the loaders
            else:
                self._notices.warn(f"{path.name} is neither a base, an adapter, nor a session")

    def _choose_base(self) -> None:
        path, _ = QFileDialog.getOpenFileName(
            self._window, "Open base model", "", "Models (*.gguf);;All files (*)"
        )
        if path:
            self.open_base(Path(path))

    def _choose_adapters(self) -> None:
        kinds = "Adapters (*.gguf *.safetensors *.bin *.zip);;All files (*)"
        paths, _ = QFileDialog.getOpenFileNames(self._window, "Add adapters", "", kinds)
        for path in paths:
            self.add_adapter(Path(path))

    def _choose_adapter_folder(self) -> None:
        path = QFileDialog.getExistingDirectory(self._window, "Add an adapter folder (PEFT)")
        if path:
            self.add_adapter(Path(path))

    def _choose_with_options(self) -> None:
        kinds = "Adapters (*.gguf *.safetensors *.bin *.zip);;All files (*)"
        chosen, _ = QFileDialog.getOpenFileName(self._window, "Add adapter with options", "", kinds)
        if chosen:
            self.ask_options(Path(chosen))

    def _show_base(self) -> None:
        base, commands = self._session.base, self._window.commands
        for action in (commands.add_adapter, commands.add_adapter_folder, commands.add_with_options):
            action.setEnabled(base is not None)
        self._window.set_base(base_line(base))


def _find_loader(path: Path, plugins: Plugins) -> Generator[Progress, None, AdapterLoader]:
    """Work that returns the loader of an adapter; it reads the file."""
    yield Progress(0, 1, path.name)
    return adapter_loader(path, plugins)


def base_line(base: BaseModel | None) -> str:
    """Describe a base in one line, such as ``SmolLM2-135M · llama · Q4_1 · 98 MB``."""
    if base is None:
        return "No base open"
    size = base.file_size / 1e6
    text = f"{size:.0f} MB" if size < 1000 else f"{size / 1000:.1f} GB"
    return " · ".join((base.name, base.architecture, base.file_type, text))


def log_report(report: AdapterReport) -> None:
    """Write all that is known of how an adapter fits to the log."""
    log.info("%s (%s): %s of %s modules matched", report.name, report.format, report.matched, report.modules)
    for name in report.unmatched:
        log.warning("%s: %s does not act on this base", report.name, name)
    for note in report.notes:
        log.info("%s: %s", report.name, note)
