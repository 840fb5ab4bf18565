"""Taking the blend home: asks, exports as a job, and says how to use the file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt

from studio.contracts import EVEN, ExportRequest, LowRankAdapter
from studio.gui.export_dialog import ExportDialog
from studio.gui.targets import free_path
from studio.jobs.exporting import STACKED, export
from studio.jobs.opening import recognises_adapter
from studio.lora.serving import llama_server_command
from studio.resources import demo_session

if TYPE_CHECKING:
    from studio.contracts import BaseModel, Exported, Plugins
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
        path = self._session.path
        folder = Path.home() if path is None or path == demo_session() else path.parent
        dialog = ExportDialog(
            self._plugins.exporters,
            free_path(folder / "blend.gguf"),
            blend_facts(self._session),
            self._window,
            preferred=STACKED,
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.accepted.connect(lambda: self._export(dialog))
        dialog.open()

    def _export(self, dialog: ExportDialog) -> None:
        base = self._session.base
        if base is None:
            return
        request = ExportRequest(base, dict(self._session.stack.by_key), self._session.stack.blend)
        path, exporter = dialog.target, dialog.exporter
        self._jobs.run(
            f"Export {path.name}",
            export(request, exporter, path, dialog.options),
            lambda exported: self._tell(exported, base),
        )

    def _tell(self, exported: Exported, base: BaseModel) -> None:
        """Say what was written, what to know of it and, of a GGUF file, how to serve it."""
        text = ". ".join((f"Exported {exported.path.name}", *exported.notes))
        if exported.path.suffix == ".gguf":
            is_adapter = recognises_adapter(exported.path, self._plugins)
            model, adapter = (base.path, exported.path) if is_adapter else (exported.path, None)
            text += f". Serve it: {llama_server_command(model, adapter)}"
        self._notices.info(text)


def blend_facts(session: Session) -> list[tuple[str, str]]:
    """Describe the blend that an export would write, as (name, text): its channels, its ranks, its size."""
    stack = session.stack
    heard = {channel.key: channel for channel in stack.blend.channels}
    channels = ", ".join(
        f"{stack.by_key[key].name} × {channel.scale:.2f}{' × gains' if channel.gains != EVEN else ''}"
        for key, channel in heard.items()
    )
    ranks: Counter[str] = Counter()
    numbers = 0
    for key in heard:
        adapter = stack.by_key[key]
        for module, factors in adapter.factors.items() if isinstance(adapter, LowRankAdapter) else ():
            ranks[module] += factors.a.shape[0]
            numbers += factors.a.size + factors.b.size
    facts = [("Blend", channels or "silent: no channel is heard")]
    if ranks:
        low, high = min(ranks.values()), max(ranks.values())
        rank = str(low) if low == high else f"{low} to {high}"
        facts.append(("Rank", f"{rank} in each of {len(ranks)} modules, the channels' ranks added"))
        facts.append(("Size", f"about {_size(2 * numbers)} in F16, {_size(4 * numbers)} in F32"))
    return facts


def _size(count: float) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"
