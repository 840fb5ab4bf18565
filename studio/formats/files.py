"""Opening files to read: what is no regular file is refused, and a file that changes under us is noticed."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING

from studio.errors import FormatError

if TYPE_CHECKING:
    from io import FileIO
    from pathlib import Path


def open_regular_file(path: Path) -> FileIO:
    """Open a file to read, unbuffered. Raises `FormatError` when it is missing, empty, or no regular file."""
    try:
        # A pipe would block the opening itself, so look first.
        if not stat.S_ISREG(path.stat().st_mode):
            raise FormatError("this is not a file", path=path, remedy="Choose a file")
        file = open(path, "rb", buffering=0)
    except FileNotFoundError:
        raise FormatError("the file does not exist", path=path, remedy="Check the path") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise FormatError(
            f"the file cannot be read: {reason}", path=path, remedy="Check its permissions"
        ) from None
    if not os.fstat(file.fileno()).st_size:
        file.close()
        raise FormatError("the file is empty", path=path, remedy="Copy or download it again")
    return file


@dataclass(frozen=True)
class FileIdentity:
    """Tells one state of one file on disk from another.

    Attributes
    ----------
    device, inode
        Which file it is.
    size
        In bytes.
    modified
        Time of its last change, in nanoseconds.
    """

    device: int
    inode: int
    size: int
    modified: int

    @classmethod
    def of(cls, status: os.stat_result) -> FileIdentity:
        """Take the identity from what `os.stat` or `os.fstat` says."""
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
