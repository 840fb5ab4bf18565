"""A save leaves the old file or the new one, whatever happens in between."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from studio.errors import CancelledError, FormatError, SaveError
from studio.formats.atomic import check_target, replacing, write_atomically

OLD, NEW = b"old" * 1000, b"new" * 5000


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "blend.gguf"
    path.write_bytes(OLD)
    return path


def write_new(path: Path) -> None:
    path.write_bytes(NEW)


def assert_untouched(target: Path) -> None:
    assert target.read_bytes() == OLD
    assert os.listdir(target.parent) == [target.name]


def test_the_new_content_takes_the_place_of_the_old(target: Path) -> None:
    write_atomically(target, write_new)
    assert target.read_bytes() == NEW
    assert os.listdir(target.parent) == [target.name]


def test_a_new_file_gets_the_usual_permissions_and_an_old_one_keeps_its_own(target: Path) -> None:
    fresh = target.with_name("fresh.gguf")
    write_atomically(fresh, write_new)
    plain = target.with_name("plain")
    plain.touch()
    assert fresh.stat().st_mode == plain.stat().st_mode

    target.chmod(0o600)
    write_atomically(target, write_new)
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_name_as_long_as_the_file_system_takes_can_be_saved(tmp_path: Path) -> None:
    target = tmp_path / ("x" * 255)
    write_atomically(target, write_new)
    assert target.read_bytes() == NEW


@pytest.mark.parametrize("error", [OSError(28, "full"), MemoryError(), KeyboardInterrupt(), CancelledError()])
def test_a_writer_that_fails_leaves_nothing(target: Path, error: BaseException) -> None:
    def fail(path: Path) -> None:
        path.write_bytes(NEW[:100])
        raise error

    with pytest.raises(SaveError if isinstance(error, OSError) else type(error)):
        write_atomically(target, fail)
    assert_untouched(target)


def test_a_file_that_does_not_verify_leaves_nothing(target: Path) -> None:
    def verify(path: Path) -> None:
        assert path.read_bytes() == NEW
        raise FormatError("not what was meant", path=path)

    with pytest.raises(FormatError, match="not what was meant"):
        write_atomically(target, write_new, verify)
    assert_untouched(target)


def test_closing_a_generator_that_writes_leaves_nothing(target: Path) -> None:
    def work() -> object:
        with replacing(target) as temporary:
            temporary.write_bytes(NEW)
            yield

    steps = work()
    next(steps)  # type: ignore[call-overload]
    assert len(os.listdir(target.parent)) == 2
    steps.close()  # type: ignore[attr-defined]
    assert_untouched(target)


@pytest.mark.parametrize("kind", ["itself", "symbolic link", "hard link", "a file in its folder"])
def test_a_file_in_use_is_refused_by_whatever_name(target: Path, kind: str) -> None:
    alias = target.with_name("alias.gguf")
    if kind == "symbolic link":
        alias.symlink_to(target)
    elif kind == "hard link":
        os.link(target, alias)
    else:
        alias = target
    protected = target.parent if kind == "a file in its folder" else target
    with pytest.raises(SaveError, match=r"in use.*another name"):
        write_atomically(alias, write_new, protected=[protected])
    assert target.read_bytes() == OLD


def test_a_target_is_checked_before_the_work(target: Path) -> None:
    check_target(target)
    assert target.read_bytes() == OLD
    with pytest.raises(SaveError, match=rf"^{re.escape(str(target))}: it is in use"):
        check_target(target, [target])
    with pytest.raises(SaveError, match="Check that the folder still exists"):
        check_target(target.parent / "missing" / "out.gguf")
    with pytest.raises(SaveError, match="a folder of this name"):
        check_target(target.parent)
    assert os.listdir(target.parent) == [target.name]


def test_a_symbolic_link_is_followed(target: Path) -> None:
    link = target.with_name("link.gguf")
    link.symlink_to(target)
    write_atomically(link, write_new)
    assert link.is_symlink()
    assert target.read_bytes() == NEW


def test_a_loop_of_links_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop.gguf"
    loop.symlink_to(loop)
    with pytest.raises(SaveError):
        write_atomically(loop, write_new)


def test_a_folder_is_no_target(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="a folder of this name exists"):
        write_atomically(tmp_path, write_new)


@pytest.mark.parametrize("folder", ["missing", "file", "/proc"])
def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path, folder: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SaveError, match="could not be written"):
        write_atomically(tmp_path / folder / "blend.gguf", write_new)


def test_a_folder_that_vanishes_while_writing_is_told(tmp_path: Path) -> None:
    folder = tmp_path / "stick"
    folder.mkdir()

    def unplug(path: Path) -> None:
        path.write_bytes(NEW)
        shutil.rmtree(folder)

    with pytest.raises(SaveError, match="folder still exists"):
        write_atomically(folder / "blend.gguf", unplug)


def test_two_saves_to_one_path_do_not_mix(target: Path) -> None:
    with replacing(target) as first:
        first.write_bytes(b"first")
        with replacing(target) as second:  # would clear away the first one's file, were it not locked
            second.write_bytes(b"second")
        assert target.read_bytes() == b"second"
    assert target.read_bytes() == b"first"
    assert os.listdir(target.parent) == [target.name]


def test_only_what_dead_writers_left_is_cleared_away(target: Path) -> None:
    target.with_name(".blend.gguf.lora-studio-0123abcd.part").write_bytes(NEW)
    similar = target.with_name(".my.lora-studio-notes.part")
    similar.touch()
    write_atomically(target, write_new)
    assert sorted(target.parent.iterdir()) == [similar, target]


def run_python(code: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, text=True
    )


FILE_SIZE_LIMIT = """
import resource, sys
from pathlib import Path
from studio.errors import SaveError
from studio.formats.atomic import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (8192, 8192))
try:
    write_atomically(Path(sys.argv[1]), lambda path: path.write_bytes(bytes(10_000)) and None)
except SaveError as error:
    print(error)
"""


def test_a_limit_on_the_size_of_files_is_told(target: Path) -> None:
    with run_python(FILE_SIZE_LIMIT, target) as process:
        output, _ = process.communicate()
    assert "File too large. Save to a disk without this limit" in output
    assert_untouched(target)


WRITE_FOR_EVER = """
import itertools, os, sys
from pathlib import Path
from studio.formats.atomic import write_atomically
def write(path):
    with open(path, "wb") as file:
        for _ in range(20):
            file.write(content)
            file.flush()
for round in itertools.count():
    content = bytes([round % 256]) * 10_000
    write_atomically(Path(sys.argv[1]), write)
    if round == 0:
        print("ready", flush=True)
"""


def test_a_writer_that_is_killed_leaves_a_whole_file(tmp_path: Path) -> None:
    target = tmp_path / "blend.gguf"
    chance = random.Random(7)
    for _ in range(40):
        with run_python(WRITE_FOR_EVER, target) as process:
            assert process.stdout is not None
            process.stdout.readline()
            time.sleep(chance.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        content = target.read_bytes()
        assert content == content[:1] * 200_000
    write_atomically(target, write_new)
    assert os.listdir(tmp_path) == [target.name]
