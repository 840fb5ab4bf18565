"""Writes a folder whole or not at all: a temporary one beside it takes its place once it is good.

A folder that is there is replaced only where it is an earlier export and nothing else: the file `MARK` in it
lists what the export wrote, and a file beside those stops the replacing.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from studio.errors import SaveError
from studio.formats.atomic import check_target, flush_to_disk, save_error

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

MARK = "lora_studio.json"
"""Says in an exported folder what it was made of, and which files belong to it."""

_TOKEN = "[0-9a-f]" * 8


@contextmanager
def replacing_folder(
    path: Path, provenance: Mapping[str, Any], protected: Iterable[Path] = ()
) -> Iterator[Path]:
    """Give a temporary folder to write to, and put it in the place of `path` when the block ends well.

    Parameters
    ----------
    path
        The target: nothing, an empty folder, or an earlier export.
    provenance
        What `MARK` says of the export, as JSON has it.
    protected
        Files and folders in use, none of which the target may hold.

    Raises
    ------
    SaveError
        The target is protected or holds other files, or it cannot be written. It is then unchanged.
    """
    check_folder_target(path, protected)
    try:
        target = path.resolve()
        _recover(target)
        _remove_stale_folders(target.parent)
        temporary = _beside(target, "part")
        temporary.mkdir()
    except OSError as error:
        raise save_error(path, error) from error
    lock = _locked(temporary)
    try:
        yield temporary
        files = sorted(entry.name for entry in temporary.iterdir())
        mark = {**provenance, "files": [*files, MARK]}
        (temporary / MARK).write_text(json.dumps(mark, indent=2) + "\n", encoding="utf-8")
        for name in mark["files"]:
            flush_to_disk(temporary / name)
        flush_to_disk(temporary)
        _take_place(temporary, target)
    except OSError as error:
        raise save_error(path, error) from error
    finally:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(temporary, ignore_errors=True)


def check_folder_target(path: Path, protected: Iterable[Path] = ()) -> None:
    """Refuse a target folder that could not be written or would lose something. Writes nothing.

    Raises
    ------
    SaveError
        It is a file, holds files of others or files in use, or its parent is missing or not writable.
    """
    target = path.resolve()
    if not target.is_dir():
        if target.exists():
            raise SaveError("a file of this name exists", path=path, remedy="Choose another name")
        check_target(path)
        return
    try:
        present = {entry.name for entry in target.iterdir()}
        others = sorted(present - _own_files(target))
        in_use = [file for file in protected if _lies_in(file, target)]
    except OSError as error:
        raise save_error(path, error) from error
    if in_use:
        raise SaveError(f"{in_use[0]} is in use", path=path, remedy="Choose another name")
    if others:
        raise SaveError(
            f"the folder holds {others[0]}, which no export wrote",
            path=path,
            remedy="Choose a new name, or an empty folder",
        )
    check_target(path / MARK)


def _own_files(folder: Path) -> frozenset[str]:
    """Return the names of the files that an export wrote into a folder, as its mark says."""
    try:
        mark = json.loads((folder / MARK).read_bytes())
        names = mark["files"]
    except (OSError, ValueError, RecursionError, KeyError, TypeError):
        return frozenset()
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return frozenset()
    return frozenset(name for name in names if (folder / name).is_file())


def _lies_in(file: Path, folder: Path) -> bool:
    real = file.resolve()
    if real == folder or folder in real.parents:
        return True
    entries = [entry for entry in folder.iterdir() if entry.is_file()] if file.is_file() else []
    return any(os.path.samefile(file, entry) for entry in entries)


def _take_place(temporary: Path, target: Path) -> None:
    """Rename the new folder to the target; an old one steps aside and is removed after that."""
    aside = None
    if target.is_dir() and any(target.iterdir()):
        aside = _beside(target, "old")
        os.rename(target, aside)
    elif target.is_dir():
        target.rmdir()
    try:
        os.rename(temporary, target)
    except OSError:
        if aside is not None:
            os.rename(aside, target)
        raise
    with suppress(OSError):  # the folder is whole by now; some file systems cannot flush a folder
        flush_to_disk(target.parent)
    if aside is not None:
        shutil.rmtree(aside, ignore_errors=True)


def _recover(target: Path) -> None:
    """Bring back what stepped aside for a writer that died before its own was in place."""
    for aside in sorted(target.parent.glob(f".{_start(target)}.lora-studio-{_TOKEN}.old")):
        if target.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            os.rename(aside, target)


def _remove_stale_folders(folder: Path) -> None:
    """Remove what writers that died left in a folder. A writer that lives holds a lock on its own."""
    for leftover in folder.glob(f".*.lora-studio-{_TOKEN}.part"):
        if leftover.is_dir():
            with suppress(OSError):
                lock = _locked(leftover)
                if lock is not None:
                    shutil.rmtree(leftover, ignore_errors=True)
                    os.close(lock)


def _locked(folder: Path) -> int | None:
    """Lock a folder while this process lives; None where the system has no such locks."""
    if sys.platform == "win32":
        return None
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BaseException:
        os.close(handle)
        raise
    return handle


def _beside(target: Path, ending: str) -> Path:
    return target.with_name(f".{_start(target)}.lora-studio-{secrets.token_hex(4)}.{ending}")


def _start(target: Path) -> str:
    return target.name[:40]  # with the rest added it must still be a name that file systems take
