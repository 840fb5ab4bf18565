"""Pictures are written whole, and only over pictures."""

from __future__ import annotations

from pathlib import Path

import pytest
from PySide6.QtGui import QImage
from PySide6.QtWidgets import QLabel
from pytestqt.qtbot import QtBot

from studio.errors import SaveError
from studio.gui.screenshot import save_picture, save_screenshot


@pytest.fixture
def label(qtbot: QtBot) -> QLabel:
    label = QLabel("desk")
    qtbot.addWidget(label)
    label.resize(80, 40)
    return label


@pytest.mark.parametrize("name", ["desk.png", "desk.JPG", "desk.jpeg"])
def test_the_suffix_chooses_the_format(label: QLabel, tmp_path: Path, name: str) -> None:
    save_picture(label, tmp_path / name)
    assert QImage(str(tmp_path / name)).width() == 80


@pytest.mark.parametrize("name", ["notes.txt", "desk", "desk.png.gguf"])
def test_a_file_that_is_no_picture_is_left_alone(label: QLabel, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_text("precious")
    with pytest.raises(SaveError, match="no file name of a picture.*png"):
        save_picture(label, path)
    assert path.read_text() == "precious"


def test_the_name_is_checked_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="no file name of a picture"):
        save_screenshot(tmp_path / "no such session", tmp_path / "notes.txt")


def test_another_name_of_the_same_file_keeps_what_it_had(label: QLabel, tmp_path: Path) -> None:
    original, picture = tmp_path / "thesis.txt", tmp_path / "desk.png"
    original.write_text("precious")
    picture.hardlink_to(original)
    save_picture(label, picture)
    assert original.read_text() == "precious"
    assert QImage(str(picture)).width() == 80
