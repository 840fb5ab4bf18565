"""Pictures of the desk at work: `python -m studio.gui.screenshot FOLDER` makes them, light and dark."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from PySide6.QtCore import QEventLoop, QTimer
from PySide6.QtWidgets import QApplication, QDialog

from studio.errors import SaveError, StudioError
from studio.formats.atomic import write_atomically
from studio.gui.combine_dialog import CombineDialog
from studio.gui.desk import Desk, application
from studio.gui.display import choose_platform
from studio.gui.export_dialog import ExportDialog
from studio.gui.learning_scenes import save_learning
from studio.gui.settings import Settings
from studio.gui.verification_dialog import VerificationDialog
from studio.registry import load_plugins
from studio.resources import demo_session

if TYPE_CHECKING:
    from collections.abc import Callable

    from PySide6.QtWidgets import QWidget

    from studio.contracts import Engine, Plugins
    from studio.gui.theme import ThemeName
    from studio.jobs.live import LiveResult

Dialog = TypeVar("Dialog", bound=QDialog)

MERGED = "merged base (GGUF)"
"""The name of the exporter whose dialog is shown."""

CUT = 5
"""The rank that the blend is cut to in the dialog that combines."""

SIZE = (1440, 900)
"""Width and height of a picture, in pixels."""

FORMATS = {".png": "PNG", ".jpg": "JPG", ".jpeg": "JPG"}
"""Qt's name of the picture format of each file suffix."""

PATIENCE_MS = 300_000
"""How long to wait for the desk, in milliseconds: a busy machine generates a token a second."""


class Show:
    """Plays a session on a desk that draws offscreen: opens it, moves a fader, generates."""

    def __init__(
        self, session: Path, plugins: Plugins, theme: ThemeName = "light", *, engine: Engine | None = None
    ) -> None:
        choose_platform(headless=True)
        self._folder = tempfile.TemporaryDirectory()
        settings = Settings(Path(self._folder.name) / "desk.ini")
        settings.theme = theme
        self.desk = Desk(application(), plugins, engine=engine, settings=settings)
        self.desk.window.resize(*SIZE)
        self.desk.window.show()
        self.result: LiveResult | None = None
        self._failure = ""
        self.desk.live.shown.connect(self._keep)
        self.desk.notices.failed.connect(self._fail)
        self.desk.sessions.open(session, template=True)
        self.settle()

    def settle(self) -> None:
        """Wait until what the session holds is on the screen and no job is left."""
        self.wait_until(self._is_settled)

    def move(self, key: str, scale: float) -> LiveResult:
        """Move a fader as a hand does, and wait until the answer is on the screen."""
        self.desk.window.stack.rows[key].number.setValue(scale)
        self.wait_until(self._is_answered)
        assert self.result is not None
        return self.result

    def generate(self) -> None:
        """Continue the prompt with base and blend, to the end."""
        done: list[bool] = []
        self.desk.prompt.finished.connect(lambda: done.append(True))
        self.desk.prompt.generate()
        self.wait_until(lambda: bool(done))

    def save(self, path: Path) -> None:
        """Save a picture of the window."""
        save_picture(self.desk.window, path)

    def wait_until(self, condition: Callable[[], bool]) -> None:
        """Turn the event loop until something is so; a failure or a long silence ends the show."""
        loop = QEventLoop()
        look, patience = QTimer(), QTimer()
        look.timeout.connect(lambda: loop.quit() if condition() or self._failure else None)
        patience.timeout.connect(loop.quit)
        look.start(5)
        patience.start(PATIENCE_MS)
        loop.exec()
        if not condition():
            raise StudioError(self._failure or "the desk did not answer in time")

    def close(self) -> None:
        """Take the desk down."""
        self.desk.close()
        self._folder.cleanup()

    def _is_answered(self) -> bool:
        """Say whether the newest answer is to what the session holds now."""
        session, result = self.desk.session, self.result
        return (
            result is not None
            and result.request.state == session.stack.blend
            and result.request.prompt == session.prompt
        )

    def _is_settled(self) -> bool:
        desk = self.desk
        return self._is_answered() and desk.norms.ready and not desk.jobs.busy and not desk.live.busy

    def _keep(self, result: LiveResult) -> None:
        self.result = result

    def _fail(self, text: str) -> None:
        self._failure = text


def picture_format(path: Path) -> str:
    """Return Qt's name of the format that a file's suffix stands for. Raises `SaveError` for any other."""
    try:
        return FORMATS[path.suffix.lower()]
    except KeyError:
        raise SaveError(
            "this is no file name of a picture", path=path, remedy="Name a .png or .jpg file"
        ) from None


def save_picture(widget: QWidget, path: Path) -> None:
    """Save what a widget shows. Raises `SaveError`; what stood at the path is then unchanged."""
    kind, picture = picture_format(path), widget.grab()

    def write(temporary: Path) -> None:
        if not picture.save(str(temporary), kind):
            raise OSError("the picture could not be encoded")

    write_atomically(path, write)


def save_screenshot(
    session: Path, target: Path, *, safe_mode: bool = False, theme: ThemeName = "light"
) -> list[str]:
    """Open a session offscreen, move its first fader, generate, save a picture; say what was done.

    Raises
    ------
    SaveError
        If the target is no picture's name, before anything is done, or cannot be written.
    """
    picture_format(target)
    show = Show(session, load_plugins(safe_mode), theme)
    try:
        lines = [f"base        {show.desk.window.base_text}"]
        channels = show.desk.session.stack.state.channels
        lines += [f"adapter     {channel.key} at {channel.scale:g}" for channel in channels]
        if channels:
            first = channels[0]
            show.move(first.key, 0.0)
            result = show.move(first.key, first.scale)
            found = result.next_token
            likeliest = found.candidates[0]
            lines.append(f"moved       {first.key} from 0 to {first.scale:g} in {result.milliseconds:.0f} ms")
            lines.append(
                f"next token  {likeliest.piece!r} {likeliest.p_base:.2f} -> {likeliest.p_blend:.2f}, "
                f"KL {found.kl:.2f} nats"
            )
        show.generate()
        show.settle()
        show.desk.window.toast.hide()
        show.save(target)
        return lines
    finally:
        show.close()


def save_windows(session: Path, folder: Path, theme: ThemeName) -> list[Path]:
    """Save pictures of the windows that open from the desk: report, export, its proof, combine, learning."""
    plugins = load_plugins()
    show = Show(session, plugins, theme)
    desk = show.desk
    saved: list[Path] = []

    def save(widget: QWidget, name: str) -> None:
        target = folder / f"{name}-{theme}.png"
        save_picture(widget, target)
        saved.append(target)

    try:
        with tempfile.TemporaryDirectory() as scratch:
            rows = desk.window.stack.rows
            desk.reports.open(
                next((key for key, row in rows.items() if row.channel.flagged), next(iter(rows)))
            )
            QApplication.processEvents()
            save(desk.window.docks["report"], "report")

            desk.combining.open()
            combine = _only(desk, CombineDialog)
            show.wait_until(lambda: combine.add_button.isEnabled())
            combine.rank_box.setValue(CUT)
            show.wait_until(lambda: f"{CUT} in each of" in dict(combine.outcome.facts).get("Rank", ""))
            save(combine, "combine")
            combine.reject()

            desk.exports.ask()
            export = _only(desk, ExportDialog)
            export.choice.setCurrentRow([one.name for one in plugins.exporters].index(MERGED))
            export.path_edit.setText(str(Path(scratch) / "merged.gguf"))
            export.verify_box.setChecked(True)
            show.wait_until(lambda: export.preview.advice.text() != "")
            export.path_edit.setText("~/models/merged.gguf")
            show.settle()
            save(export, "export")
            export.path_edit.setText(str(Path(scratch) / "merged.gguf"))
            export.accept()
            show.wait_until(lambda: desk.window.findChild(VerificationDialog) is not None)
            proof = _only(desk, VerificationDialog)
            save(proof, "verified")
            proof.heatmap_button.click()
            show.settle()
            save(desk.window.docks["heatmap"], "kept")
            proof.close()
        save_learning(show, save)
        return saved
    finally:
        show.close()


def _only(desk: Desk, kind: type[Dialog]) -> Dialog:
    dialog = desk.window.findChild(kind)
    assert dialog is not None
    QApplication.processEvents()  # it is laid out with its first events
    return dialog


def main() -> None:
    """Save the desk and its windows, light and dark, to the folder named on the command line."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    themes: tuple[ThemeName, ...] = ("light", "dark")
    for theme in themes:
        target = folder / f"desk-{theme}.png"
        save_screenshot(demo_session(), target, theme=theme)
        print(target, *save_windows(demo_session(), folder, theme), sep="\n")


if __name__ == "__main__":
    main()
