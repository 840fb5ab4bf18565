"""Taking the blend home: asks, exports as a job, and says how to use the file."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt

from studio.contracts import ExportRequest
from studio.gui.export_dialog import ExportDialog
from studio.jobs.exporting import export

if TYPE_CHECKING:
    from studio.contracts import Plugins
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.session.session import Session


class ExportsController(QObject):
    """Exports the blend as it stands when the dialog is accepted."""

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
        window.commands.export.triggered.connect(self.ask)

    def ask(self) -> None:
        """Open the export dialog."""
        if not self._plugins.exporters:
            self._notices.warn("No plugin offers an export")
            return
        folder = self._session.path.parent if self._session.path else Path.home()
        dialog = ExportDialog(self._plugins.exporters, folder / "blend.gguf", self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self._export(dialog))
        dialog.open()

    def _export(self, dialog: ExportDialog) -> None:
        base = self._session.base
        if base is None:
            return
        request = ExportRequest(base, dict(self._session.stack.by_key), self._session.stack.blend)
        path, exporter = dialog.target, dialog.exporter
        command = f"llama-cli -m {shlex.quote(str(base.path))} --lora {shlex.quote(str(path))}"
        self._jobs.run(
            f"Export {path.name}",
            export(request, exporter, path, dialog.options),
            lambda _: self._notices.info(f"Exported {path.name}. Try it: {command}"),
        )
