"""Taking the blend home: asks, foretells, exports and verifies as jobs, and says how to use the file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from PySide6.QtCore import QObject, Qt
from PySide6.QtGui import QGuiApplication

from studio.contracts import EVEN, ExportRequest, Progress
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.errors import StudioError
from studio.gui.controllers.forecast import Forecast
from studio.gui.export_dialog import ExportDialog
from studio.gui.targets import free_path
from studio.gui.verification_dialog import VerificationDialog
from studio.jobs.exporting import STACKED, export
from studio.jobs.merge_options import Merged
from studio.jobs.opening import recognises_adapter
from studio.jobs.verifying import is_read_back, verify
from studio.lora.algebra import RankLimit
from studio.lora.limiting import limited
from studio.lora.serving import llama_server_command
from studio.resources import demo_session, verification_texts
from studio.session.command import ExportSettings, export_command

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from studio.contracts import Combination, Exported, Plugins
    from studio.engine.tokenizer import Tokenizer
    from studio.gui.controllers.jobs import JobsController
    from studio.gui.controllers.norms import NormsController
    from studio.gui.main_window import MainWindow
    from studio.gui.notices import Notices
    from studio.jobs.agreement import Agreement
    from studio.session.session import Session

WHOLE = RankLimit()


class ExportsController(QObject):
    """Exports the blend as it stands when the dialog is accepted."""

    def __init__(
        self,
        session: Session,
        jobs: JobsController,
        norms: NormsController,
        plugins: Plugins,
        window: MainWindow,
        notices: Notices,
        parent: QObject,
    ) -> None:
        super().__init__(parent)
        self._session = session
        self._jobs = jobs
        self._norms = norms
        self._plugins = plugins
        self._window = window
        self._notices = notices
        window.commands.export.triggered.connect(lambda: self.ask())
        window.commands.copy_command.triggered.connect(self._copy_blend)

    def ask(self, combination: Combination | None = None, limit: RankLimit = WHOLE) -> None:
        """Open the export dialog, for the sum of the deltas or for what a method makes of them."""
        base = self._session.base
        if base is None or not self._plugins.exporters:
            self._notices.warn("Open a base model first" if base is None else "No plugin offers an export")
            return
        facts = blend_facts(self._session)
        if combination is not None:
            facts.append(("Combined by", combination.method.name))
        if limit.energy < 1:
            facts.append(("Cut", f"to the rank that keeps {limit.energy:.2%} of the squared norm"))
        dialog = ExportDialog(
            self._plugins.exporters,
            self._suggested_target(),
            facts,
            self._window,
            preferred=STACKED,
            rank=limit.rank,
        )
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        request = ExportRequest(
            base, dict(self._session.stack.by_key), self._session.stack.blend, combination
        )
        self._offer_verifying(dialog, request)
        dialog.changed.connect(lambda: self._offer_verifying(dialog, request))
        Forecast(request, limit.energy, dialog, self._jobs)
        dialog.command_requested.connect(
            lambda: self._copy(self._settings(dialog, combination, limit.energy))
        )
        dialog.accepted.connect(lambda: self._export(self._settings(dialog, combination, limit.energy)))
        dialog.open()

    def _offer_verifying(self, dialog: ExportDialog, request: ExportRequest) -> None:
        """Let only that be verified which can run on a text and is read back."""
        can = self._session.tokenizer is not None and is_read_back(dialog.exporter, request, dialog.options)
        dialog.verify_box.setEnabled(can)
        if not can:
            dialog.verify_box.setChecked(False)

    def _settings(
        self, dialog: ExportDialog, combination: Combination | None, energy: float
    ) -> ExportSettings:
        return ExportSettings(
            dialog.exporter,
            dialog.options,
            dialog.target,
            limited(combination, RankLimit(dialog.rank, energy)),
            self._texts() if dialog.verify_box.isChecked() else None,
        )

    def _suggested_target(self) -> Path:
        path = self._session.path
        folder = Path.home() if path is None or path == demo_session() else path.parent
        return free_path(folder / "blend.gguf")

    def _texts(self) -> tuple[str, ...]:
        """Return what to verify on: the prompt; the studio's own texts where there is none."""
        text = self._session.prompt.text
        return (text,) if text.strip() else ()

    # Copy as command

    def _copy_blend(self) -> None:
        """Copy the line that exports what is heard as one stacked adapter."""
        exporter = next((one for one in self._plugins.exporters if one.name == STACKED), None)
        if exporter is None:
            self._notices.warn(f"No plugin offers the export as {STACKED}")
            return
        self._copy(ExportSettings(exporter, exporter.Options(), Path("blend.gguf")))

    def _copy(self, settings: ExportSettings) -> None:
        try:
            line = export_command(self._session, settings)
        except StudioError as error:
            self._notices.error("There is no such command", error)
            return
        QGuiApplication.clipboard().setText(line)
        self._notices.info("Copied the command")

    # The work

    def _export(self, settings: ExportSettings) -> None:
        base = self._session.base
        if base is None:
            return
        stack = self._session.stack
        request = ExportRequest(base, dict(stack.by_key), stack.blend, settings.combination)
        self._jobs.run(
            f"Export {settings.target.name}",
            export(request, settings.exporter, settings.target, settings.options),
            lambda exported: self._take(exported, request, settings),
        )

    def _take(self, exported: Exported, request: ExportRequest, settings: ExportSettings) -> None:
        """Say what was written and, of a GGUF file, how to serve it; verify it where that was asked for."""
        text = ". ".join((f"Exported {exported.path.name}", *(note.rstrip(".") for note in exported.notes)))
        if exported.path.suffix == ".gguf":
            is_adapter = recognises_adapter(exported.path, self._plugins)
            model, adapter = (request.base.path, exported.path) if is_adapter else (exported.path, None)
            text += f". Serve it: {llama_server_command(model, adapter)}"
        self._notices.info(text)
        if isinstance(exported, Merged) and exported.kept:
            kept = {one.module: one.kept for one in exported.kept}
            self._norms.offer_kept(exported.path.name, kept, show=False)
        tokenizer = self._session.tokenizer
        if settings.texts is None or tokenizer is None or request.base is not self._session.base:
            return
        self._jobs.run(
            f"Verify {exported.path.name}",
            _verify(request, exported.path, settings.texts, tokenizer, self._plugins),
            lambda agreement: self._show(exported, agreement),
        )

    def _show(self, exported: Exported, agreement: Agreement) -> None:
        dialog = VerificationDialog(exported.path, agreement, exported.notes, self._window)
        dialog.setAttribute(Qt.WidgetAttribute.WA_DeleteOnClose)
        dialog.heatmap_requested.connect(
            lambda: self._norms.offer_kept(
                exported.path.name, {one.module: one.kept for one in agreement.modules}, show=True
            )
        )
        dialog.show()


def _verify(
    request: ExportRequest, path: Path, texts: Sequence[str], tokenizer: Tokenizer, plugins: Plugins
) -> Generator[Progress, None, Agreement]:
    """Work that verifies on texts; on the studio's own where there are none."""
    yield Progress(0, 0, "Reading the texts")
    tokens = [tokenizer.encode(text) for text in texts or verification_texts()]
    agreement: Agreement = yield from verify(
        request, path, tokens, plugins, lambda: LocalEngine(choose_backend("auto"))
    )
    return agreement


def blend_facts(session: Session) -> list[tuple[str, str]]:
    """Describe the blend that an export would write, as (name, text)."""
    stack = session.stack
    channels = ", ".join(
        f"{stack.by_key[channel.key].name} × {channel.scale:.2f}{' × gains' if channel.gains != EVEN else ''}"
        for channel in stack.blend.channels
    )
    return [("Blend", channels or "silent: no channel is heard")]
