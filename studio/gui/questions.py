"""The few questions the desk has to ask before it goes on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias

from PySide6.QtWidgets import QMessageBox

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from PySide6.QtWidgets import QWidget

SaveAnswer: TypeAlias = Literal["save", "discard", "cancel"]

Button = QMessageBox.StandardButton


def save_changes(parent: QWidget, name: str) -> SaveAnswer:
    """Ask whether to save a session's changes."""
    answer = QMessageBox.question(
        parent,
        "Unsaved changes",
        f"Save the changes to “{name}”?",
        Button.Save | Button.Discard | Button.Cancel,
        Button.Save,
    )
    answers: dict[QMessageBox.StandardButton, SaveAnswer] = {Button.Save: "save", Button.Discard: "discard"}
    return answers.get(answer, "cancel")


def overwrite(parent: QWidget, path: Path) -> bool:
    """Ask whether to replace a file."""
    answer = QMessageBox.question(
        parent,
        "The file is there already",
        f"Replace “{path.name}” in {path.parent}?",
        Button.Yes | Button.Cancel,
        Button.Cancel,
    )
    return answer == Button.Yes


def stop_jobs(parent: QWidget, titles: Sequence[str]) -> bool:
    """Ask whether to close although jobs are under way; they would be cancelled."""
    listed = "\n".join(f"• {title}" for title in titles)
    answer = QMessageBox.question(
        parent,
        "Work is under way",
        f"Closing cancels:\n{listed}\n\nFiles that are being written stay as they were. Close?",
        Button.Close | Button.Cancel,
        Button.Cancel,
    )
    return answer == Button.Close


def relink(parent: QWidget, missing: Sequence[str]) -> bool:
    """Ask whether to look for files that a session names and that are not there."""
    listed = "\n".join(f"• {location}" for location in missing)
    answer = QMessageBox.question(
        parent,
        "Files moved",
        f"The session names files that are not there:\n{listed}\n\nPoint at them?",
        Button.Open | Button.Ignore,
        Button.Open,
    )
    return answer == Button.Open


def use_cpu(parent: QWidget, reason: str) -> bool:
    """Ask whether to go on with the CPU after the GPU failed."""
    answer = QMessageBox.question(
        parent,
        "The GPU failed",
        f"{reason[:1].upper()}{reason[1:]}. Go on with the CPU? The session stays as it is.",
        Button.Yes | Button.No,
        Button.Yes,
    )
    return answer == Button.Yes


def leave_training(parent: QWidget, name: str) -> bool:
    """Ask whether to end a training for another base; an adapter fits the base it was trained on alone."""
    answer = QMessageBox.question(
        parent,
        "Training is under way",
        f"Another base ends the training of “{name}”, and what it has learnt is in no file. Go on?\n\n"
        "Stop it instead to keep its best on the stack, from where it can be exported.",
        Button.Discard | Button.Cancel,
        Button.Cancel,
    )
    return answer == Button.Discard
