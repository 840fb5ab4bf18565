"""Recognises Python pickles by their content, so that none is ever opened."""

from __future__ import annotations

import zipfile
from typing import TYPE_CHECKING

from studio.errors import FormatError
from studio.formats.files import open_regular_file

if TYPE_CHECKING:
    from pathlib import Path

PICKLE_PROTOCOLS = range(2, 6)


def refuse_pickle(path: Path) -> None:
    """Raise `FormatError` if the file is a Python pickle, bare or in a PyTorch archive; never unpickle it."""
    with open_regular_file(path) as file:
        start = file.read(9)
    # The length that opens a safetensors header may begin with the same two bytes as a pickle.
    is_safetensors = start[3:8] == bytes(5) and start[8:] == b"{"
    is_pickle = len(start) > 1 and start[0] == 0x80 and start[1] in PICKLE_PROTOCOLS
    if not is_safetensors and (is_pickle or _is_archive_of_pickles(path, start)):
        raise FormatError(
            "this is a Python pickle, which can run any program when it is opened",
            path=path,
            remedy="Convert it to safetensors where you trust it",
        )


def _is_archive_of_pickles(path: Path, start: bytes) -> bool:
    if not start.startswith(b"PK"):
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return False
