"""Names to save under."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.gui.targets import free_path, names_a_file, path_of, with_suffix


@pytest.mark.parametrize(
    ("typed", "written"),
    [
        ("blend", "blend.gguf"),
        ("blend v1.5", "blend v1.5.gguf"),
        ("blend.GGUF", "blend.GGUF"),
        ("blend.gguf.old", "blend.gguf.old.gguf"),
        ("folder.d/blend", "folder.d/blend.gguf"),
    ],
)
def test_the_suffix_is_appended_unless_it_is_there(typed: str, written: str) -> None:
    assert with_suffix(path_of(typed), ".gguf") == Path(written)


def test_another_right_suffix_stands() -> None:
    assert with_suffix(Path("my.session"), ".lorastudio.json", ".json") == Path("my.session.lorastudio.json")
    assert with_suffix(Path("my.json"), ".lorastudio.json", ".json") == Path("my.json")


@pytest.mark.parametrize("typed", ["", " ", ".", "..", "/", "~", "folder/..", "x" * 300, "a\0b"])
def test_what_names_no_file_is_left_alone(typed: str) -> None:
    assert not names_a_file(path_of(typed))
    assert with_suffix(path_of(typed), ".gguf") == path_of(typed)


def test_a_free_name_is_numbered(tmp_path: Path) -> None:
    path = tmp_path / "blend.gguf"
    assert free_path(path) == path
    path.touch()
    (tmp_path / "blend-2.gguf").touch()
    assert free_path(path) == tmp_path / "blend-3.gguf"
