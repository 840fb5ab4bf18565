"""Pictures of the desk as it learns: a run, a search, the landscape, the sensitivity."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from PySide6.QtWidgets import QApplication, QSpinBox, QWidget

from studio.gui.train_dialog import TrainDialog
from studio.learning.wanted import Wanted
from studio.resources import assets_folder

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from studio.gui.options_form import OptionsForm
    from studio.gui.screenshot import Show

    Save = Callable[[QWidget, str], None]

Editor = TypeVar("Editor", bound=QWidget)

RUN = {"steps": 36, "batch": 2, "validate_every": 6, "sample_every": 12, "sample_tokens": 32}
"""The options of the run; the rest is left as it is."""

LENGTH = 64
"""Of its examples, in tokens: it is done in half a minute then."""

WANTED = (
    Wanted("The lessee shall, upon written notice, surrender the premises to the lessor in good repair."),
    Wanted("And it came to pass in those days, that he arose, and went up unto the mountain."),
)
"""What the blend is to write: a sentence in the voice of each of two of the demo's adapters."""


def save_learning(show: Show, save: Save) -> None:
    """Save pictures of a show: of the whole window for a run, of the others their own windows."""
    desk = show.desk
    dialog = _ask_training(show, assets_folder() / "guide.md")
    save(dialog, "train")
    dialog.accept()
    panel = desk.window.run
    show.wait_until(lambda: "step" in panel.numbers.numbers)
    panel.listen_box.click()
    show.wait_until(lambda: desk.training.name == "")
    show.settle()
    desk.window.toast.hide()
    save(desk.window, "training")
    desk.session.history.undo()

    desk.searching.open()
    search = desk.searching.dialog
    search.editor.set_wanted(WANTED)
    search.editor.changed.emit()
    QApplication.processEvents()
    search.start_button.click()
    show.wait_until(lambda: desk.searching.found is not None and search.start_button.isEnabled())
    show.settle()
    save(search, "search")
    search.close()

    desk.sensitivity.ask()
    show.wait_until(lambda: desk.window.heatmap.readout.text().startswith("loss"))
    save(desk.window.docks["heatmap"], "sensitivity")

    desk.landscape.open()
    landscape = desk.landscape.dialog
    landscape.start_button.click()
    show.wait_until(lambda: landscape.view.lowest is not None and landscape.start_button.isEnabled())
    show.settle()
    save(landscape, "landscape")
    landscape.close()


def _ask_training(show: Show, text: Path) -> TrainDialog:
    """Open the train dialog on a text, and wait until it knows what that takes."""
    show.desk.training.ask()
    dialog = show.desk.window.findChild(TrainDialog)
    assert dialog is not None
    for name, value in RUN.items():
        _editor(dialog.trainer_form, QSpinBox, name).setValue(value)
    _editor(dialog.data_form, QSpinBox, "max_length").setValue(LENGTH)
    dialog.data.edit.setText(str(text))
    show.wait_until(dialog.start_button.isEnabled)
    QApplication.processEvents()
    return dialog


def _editor(form: OptionsForm, kind: type[Editor], name: str) -> Editor:
    found = form.findChild(kind, name)
    assert found is not None
    return found
