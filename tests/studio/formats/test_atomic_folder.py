"""A folder is written whole or not at all, and nobody's files are lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from studio.errors import SaveError
from studio.formats.atomic_folder import MARK, check_folder_target, replacing_folder


def write(path: Path, text: str = "new", *names: str) -> None:
    with replacing_folder(path, {"base": "base.gguf"}) as folder:
        for name in names or ("a.json",):
            (folder / name).write_text(text, encoding="utf-8")


def test_a_new_folder_holds_the_files_and_the_mark(tmp_path: Path) -> None:
    write(tmp_path / "out", "new", "a.json", "b.bin")
    mark = json.loads((tmp_path / "out" / MARK).read_text(encoding="utf-8"))
    assert mark == {"base": "base.gguf", "files": ["a.json", "b.bin", MARK]}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", "b.bin", MARK]
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_earlier_export_is_replaced_with_all_its_files(tmp_path: Path) -> None:
    write(tmp_path / "out", "old", "a.json", "old-shard")
    write(tmp_path / "out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["a.json", MARK]
    assert (tmp_path / "out" / "a.json").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_an_empty_folder_is_taken(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    write(tmp_path / "out")
    assert (tmp_path / "out" / "a.json").exists()


@pytest.mark.parametrize("exported_before", [True, False])
def test_a_folder_with_files_of_others_is_refused_and_stays(tmp_path: Path, exported_before: bool) -> None:
    target = tmp_path / "out"
    if exported_before:
        write(target, "old")
    target.mkdir(exist_ok=True)
    (target / "notes.txt").write_text("mine")
    before = sorted(path.name for path in target.iterdir())
    with pytest.raises(SaveError, match=r"holds notes\.txt, which no export wrote"):
        write(target)
    assert sorted(path.name for path in target.iterdir()) == before


@pytest.mark.parametrize(
    "mark", ["[]", "{}", '{"files": 3}', '{"files": [3]}', "[" * 9999, '{"files": ["sub"]}']
)
def test_a_mark_that_says_nothing_protects_the_folder(tmp_path: Path, mark: str) -> None:
    target = tmp_path / "out"
    (target / "sub").mkdir(parents=True)
    (target / MARK).write_text(mark)
    with pytest.raises(SaveError, match="no export wrote"):
        check_folder_target(target)


def test_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    with pytest.raises(SaveError, match="a file of this name exists"):
        write(tmp_path / "out")


def test_an_export_in_use_is_refused(tmp_path: Path) -> None:
    write(tmp_path / "out")
    for in_use in (tmp_path / "out", tmp_path / "out" / "a.json"):
        with pytest.raises(SaveError, match="is in use"):
            check_folder_target(tmp_path / "out", [in_use])
    (tmp_path / "link.json").hardlink_to(tmp_path / "out" / "a.json")
    with pytest.raises(SaveError, match="is in use"):
        check_folder_target(tmp_path / "out", [tmp_path / "link.json"])
    check_folder_target(tmp_path / "out", [tmp_path])


@pytest.mark.parametrize("error", [OSError(28, "No space left"), RuntimeError("broken"), GeneratorExit()])
def test_whatever_goes_wrong_the_old_export_stays(tmp_path: Path, error: BaseException) -> None:
    write(tmp_path / "out", "old")
    expected = SaveError if isinstance(error, OSError) else type(error)
    with pytest.raises(expected), replacing_folder(tmp_path / "out", {}) as folder:
        (folder / "a.json").write_text("half")
        raise error
    assert (tmp_path / "out" / "a.json").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_missing_parent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="No such file"):
        write(tmp_path / "missing" / "out")


SCRIPT = """
import os, signal, sys
from pathlib import Path
from studio.formats import atomic_folder
rename, count = os.rename, 0

def die(*arguments):
    global count
    if count == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
    rename(*arguments)

os.rename = die
with atomic_folder.replacing_folder(Path(sys.argv[1]), {}) as folder:
    (folder / "a.json").write_text("new")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
@pytest.mark.parametrize("renames", [0, 1])
def test_a_writer_that_is_killed_leaves_the_old_one_to_be_found(tmp_path: Path, renames: int) -> None:
    """At its first rename the old folder steps aside, at its second the new one takes its place."""
    target = tmp_path / "out"
    write(target, "old")
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(target), str(renames)], check=False)
    assert done.returncode == -signal.SIGKILL
    if renames == 0:
        assert (target / "a.json").read_text() == "old"
    with pytest.raises(RuntimeError), replacing_folder(target, {}):
        raise RuntimeError
    assert (target / "a.json").read_text() == "old"
    assert os.listdir(tmp_path) == ["out"]
