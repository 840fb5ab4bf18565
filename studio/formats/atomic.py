"""Writes a file whole or not at all: a temporary one beside the target takes its place once it is good."""

from __future__ import annotations

import errno
import os
import secrets
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from studio.errors import SaveError

if sys.platform != "win32":
    import fcntl

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

STALE_PATTERN = f".*.lora-studio-{'[0-9a-f]' * 8}.part"

REMEDIES = {
    errno.ENOSPC: "Free some space or save to another disk",
    errno.EDQUOT: "Free some space or save to another disk",
    errno.EFBIG: "Save to a disk without this limit on the size of files",
    errno.EACCES: "Save to a folder you may write to",
    errno.EPERM: "Save to a folder you may write to",
    errno.EROFS: "Save to a disk that is not read-only",
    errno.ENOENT: "Check that the folder still exists",
    errno.ENOTDIR: "Check that the folder still exists",
}


def write_atomically(
    path: Path,
    write: Callable[[Path], None],
    verify: Callable[[Path], None] | None = None,
    protected: Iterable[Path] = (),
) -> None:
    """Write a file so that its path holds the old content or the new, never a part of it.

    Parameters
    ----------
    path
        The target. A symbolic link is followed.
    write
        Writes the content to the path it is given.
    verify
        Opens the path it is given and raises if the content is not what it should be.
    protected
        Files in use; a folder stands for the files in it. The target may be none of them, by whatever name.

    Raises
    ------
    SaveError
        The target is protected, or the file could not be written. What stood at the target is unchanged.
    """
    with replacing(path, protected) as temporary:
        write(temporary)
        flush_to_disk(temporary)
        if verify is not None:
            verify(temporary)


@contextmanager
def replacing(path: Path, protected: Iterable[Path] = ()) -> Iterator[Path]:
    """Give a temporary path to write to, and put it in the place of `path` when the block ends well.

    It is `write_atomically` for writers that are generators: however else the block ends, by an error or by
    the generator's closing, nothing but the old file is left. The errors are the same.
    """
    try:
        target = path.resolve()
        _refuse_target(path, target, protected)
        remove_stale_temporaries(target.parent)
        # Only a part of the name: with the rest added it must still be one that file systems take.
        temporary = target.with_name(f".{target.name[:40]}.lora-studio-{secrets.token_hex(4)}.part")
        lock = _create_locked(temporary, target)
    except (OSError, RuntimeError) as error:  # RuntimeError: a loop of symbolic links
        raise save_error(path, error) from error
    try:
        try:
            yield temporary
            flush_to_disk(temporary)
        finally:
            os.close(lock)  # Windows replaces no file that is open
        os.replace(temporary, target)
        with suppress(OSError):  # the file is whole by now; some file systems cannot flush a folder
            flush_to_disk(target.parent)
    except OSError as error:
        raise save_error(path, error) from error
    finally:
        with suppress(OSError):  # it took the target's place, or the folder is gone
            temporary.unlink()


def check_target(path: Path, protected: Iterable[Path] = ()) -> None:
    """Refuse a target that could not be written, before the work whose result it is for. Writes nothing.

    Raises
    ------
    SaveError
        The target is protected or a folder, or its folder is missing or may not be written to.
    """
    try:
        target = path.resolve()
        _refuse_target(path, target, protected)
        for wrong, number in (
            (not target.parent.is_dir(), errno.ENOENT),
            (not os.access(target.parent, os.W_OK), errno.EACCES),
        ):
            if wrong:
                raise OSError(number, os.strerror(number))
    except (OSError, RuntimeError) as error:
        raise save_error(path, error) from error


def remove_stale_temporaries(folder: Path) -> None:
    """Remove what writers that died left in a folder. A writer that lives holds a lock on its file."""
    for leftover in folder.glob(STALE_PATTERN):
        with suppress(OSError):  # in use, gone already, or not ours to remove
            handle = os.open(leftover, os.O_RDWR)
            try:
                _lock(handle)
                leftover.unlink()
            finally:
                os.close(handle)


def flush_to_disk(path: Path) -> None:
    """Wait until a file or folder is on the disk, where the system can do that."""
    if path.is_dir() and sys.platform == "win32":
        return
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _refuse_target(path: Path, target: Path, protected: Iterable[Path]) -> None:
    if target.is_dir():
        raise SaveError("a folder of this name exists", path=path, remedy="Choose another name")
    if not target.exists():
        return
    for entry in protected:
        for file in entry.iterdir() if entry.is_dir() else (entry,):
            if file.exists() and os.path.samefile(file, target):
                which = "it" if file == path else f"it is {file}, which"
                raise SaveError(f"{which} is in use", path=path, remedy="Choose another name")


def _create_locked(temporary: Path, target: Path) -> int:
    """Create the temporary file with the target's permissions, locked while this process lives."""
    handle = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        _lock(handle)
        if target.exists():
            temporary.chmod(target.stat().st_mode & 0o777)
    except BaseException:
        os.close(handle)
        temporary.unlink()
        raise
    return handle


def _lock(handle: int) -> None:
    """Take the lock, or raise `OSError` if another writer has it. Windows itself protects open files."""
    if sys.platform != "win32":
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


@contextmanager
def holding_folder(folder: Path) -> Iterator[None]:
    """Hold a folder against other processes and other holders meanwhile, where the system can do that.

    Raises
    ------
    SaveError
        Somebody else holds it.
    """
    handle = None
    if sys.platform != "win32":
        with suppress(OSError):  # who uses it will say what is wrong with it
            handle = os.open(folder, os.O_RDONLY)
    try:
        if handle is not None:
            _hold(folder, handle)
        yield
    finally:
        if handle is not None:
            os.close(handle)


def _hold(folder: Path, handle: int) -> None:
    try:
        _lock(handle)
    except BlockingIOError as error:
        raise SaveError(
            "another run writes to this folder now",
            path=folder,
            remedy="Wait for it, or choose another folder",
        ) from error
    except OSError:  # a file system without locks
        return


def save_error(path: Path, error: OSError | RuntimeError) -> SaveError:
    """Say why a file could not be written, and what to do about it."""
    number = error.errno if isinstance(error, OSError) else None
    reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    remedy = REMEDIES.get(number or 0, "Save under another name or to another disk")
    return SaveError(f"the file could not be written: {reason}", path=path, remedy=remedy)
