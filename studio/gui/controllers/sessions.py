"""Opening and saving the session file, recent files, and the question before changes are lost."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Signal
from PySide6.QtWidgets import QFileDialog

from studio.errors import SessionError
from studio.gui import questions
from studio.gui.targets import with_suffix
from studio.jobs.documents import open_document, save_document

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from studio.contracts import Plugins
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.gui.settings import Settings
    from studio.session.opened import OpenedDocument
    from studio.session.session import Session

SUFFIX = ".lorastudio.json"
"""How session files are named where the user names no suffix."""

FILTER = f"Sessions (*{SUFFIX} *.json);;All files (*)"


class SessionsController(QObject):
    """Opens and saves session files."""

    path_chosen = Signal(Path)
    """(path): a recent file was chosen; what it is shows in its content."""
    opened = Signal(Path)
    """(path): the session is now what this file says."""

    def __init__(
        self,
        session: Session,
        jobs: JobsController,
        plugins: Plugins,
        window: MainWindow,
        notices: Notices,
        settings: Settings,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._jobs = jobs
        self._plugins = plugins
        self._window = window
        self._notices = notices
        self._settings = settings
        self._template = False
        self.may_leave: Callable[[], bool] = lambda: True
        """Asked before another session is opened."""
        window.commands.open_session.triggered.connect(self._choose)
        window.commands.save.triggered.connect(lambda: self.save())
        window.commands.save_as.triggered.connect(lambda: self.save_as())
        window.menus.recent.aboutToShow.connect(self._list_recent)
        session.modified_changed.connect(self._show_title)
        self._show_title()

    def open(self, path: Path, *, template: bool = False) -> None:
        """Open a session file; changes of the present session are asked about first.

        Parameters
        ----------
        path
            The session file.
        template
            The file is a start for a session of one's own, such as the demo: saving asks for another file.
        """
        if not self.may_leave():
            return
        if self._session.modified:
            self.ask_to_save(then=lambda: self._open(path, template, {}))
        else:
            self._open(path, template, {})

    def save(self, then: Callable[[], object] = lambda: None) -> None:
        """Save where the session came from, or ask where to; `then` is called once it stands on the disk."""
        path = self._session.path
        if path is None or self._template:
            self.save_as(then)
        else:
            self._save(path, then)

    def save_as(self, then: Callable[[], object] = lambda: None) -> None:
        """Ask where to save, and save."""
        start = "" if self._template else str(self._session.path or "")
        chosen, _ = QFileDialog.getSaveFileName(
            self._window,
            "Save session",
            start or f"session{SUFFIX}",
            FILTER,
            options=QFileDialog.Option.DontConfirmOverwrite,  # asked for the whole name, with its suffix
        )
        if not chosen:
            return
        path = with_suffix(Path(chosen), SUFFIX, ".json")
        if not path.exists() or questions.overwrite(self._window, path):
            self._save(path, then)

    def ask_to_save(self, then: Callable[[], object]) -> None:
        """Ask what to do with unsaved changes, and go on with `then` unless the user cancels."""
        answer = questions.save_changes(self._window, self.name)
        if answer == "save":
            self.save(then)
        elif answer == "discard":
            then()

    def remember(self, path: Path) -> None:
        """Put a path among the recent files."""
        self._settings.remember(path)

    def _open(self, path: Path, template: bool, relinked: Mapping[str, Path]) -> None:
        self._jobs.run(
            f"Open {path.name}",
            open_document(path, self._plugins, relinked),
            lambda opened: self._take(opened, template, relinked),
        )

    def _take(self, opened: OpenedDocument, template: bool, relinked: Mapping[str, Path]) -> None:
        if opened.missing and not template and questions.relink(self._window, opened.missing):
            found = self._find(opened.missing)
            if found:
                self._open(opened.path, template, {**relinked, **found})
                return
        self._template = template
        self._session.restore(opened)
        self._show_title()
        for problem in opened.problems:
            self._notices.error(f"Opening {opened.path.name}", problem)
        if opened.left_out:
            self._notices.error(f"Opening {opened.path.name}", _left_out_error(opened))
        if not template:
            self.remember(opened.path)
        if not opened.problems:
            self._notices.info(f"Opened {opened.path.name}")
        self.opened.emit(opened.path)

    def _find(self, missing: tuple[str, ...]) -> dict[str, Path]:
        """Let the user point at files that moved; one that is not found is left out."""
        found = {}
        for location in missing:
            path, _ = QFileDialog.getOpenFileName(self._window, f"Where is {location}?")
            if path:
                found[location] = Path(path)
        return found

    def _save(self, path: Path, then: Callable[[], object]) -> None:
        document = self._session.document()

        def saved(_: object) -> None:
            if self._session.document() == document:  # else it changed while it was written: still modified
                self._session.mark_saved(path)
            self._template = False
            self._show_title()
            self.remember(path)
            self._notices.info(f"Saved {path.name}")
            then()

        self._jobs.run(f"Save {path.name}", save_document(path, document), saved)

    def _choose(self) -> None:
        path, _ = QFileDialog.getOpenFileName(self._window, "Open session", "", FILTER)
        if path:
            self.open(Path(path))

    @property
    def name(self) -> str:
        """The session's name in titles and questions."""
        path = self._session.path
        return path.name.removesuffix(SUFFIX).removesuffix(".json") if path else "Untitled"

    def _show_title(self, modified: bool | None = None) -> None:
        self._window.set_document(self.name, modified=self._session.modified)

    def _list_recent(self) -> None:
        menu = self._window.menus.recent
        menu.clear()
        for path in self._settings.recent:
            action = menu.addAction(str(path))
            action.triggered.connect(lambda _, path=path: self.path_chosen.emit(path))
        if menu.isEmpty():
            menu.addAction("None yet").setEnabled(False)


def _left_out_error(opened: OpenedDocument) -> SessionError:
    """Say what of a session did not open, why, and that its file is safe."""
    reasons = "; ".join(str(problem) for problem in opened.problems)
    names = ", ".join(Path(location).name for location in opened.left_out)
    return SessionError(
        f"{len(opened.left_out)} of what it names were left out ({names}). {reasons}",
        path=opened.path,
        remedy="Saving asks for a new file, so that this one keeps what it names",
    )
