"""Unpacks zip archives of strangers: nothing outside the folder, nothing larger than allowed."""

from __future__ import annotations

import errno
import re
import shutil
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING

from studio.errors import FormatError, SaveError, UnsupportedError
from studio.formats.files import open_regular_file
from studio.formats.pickle_guard import refuse_pickle

if TYPE_CHECKING:
    from pathlib import Path

MAX_MEMBERS = 1000
MAX_BYTES = 8 << 30
"""Cap on everything unpacked: adapters of the largest models take a few gigabytes."""

MAX_RATIO = 200
"""How much larger than packed a member may be. Weights shrink by a third; zeros by a thousand."""

HARMLESS_BYTES = 1 << 20
"""Members below it may shrink as they like, as texts do."""

CHUNK_BYTES = 1 << 20

_DAMAGED = "Copy or download the archive again"


def is_zip(path: Path) -> bool:
    """Say by content whether a file is a zip archive. Never raises."""
    try:
        with open_regular_file(path) as file:
            return file.read(4) in (b"PK\x03\x04", b"PK\x05\x06")
    except (FormatError, OSError, ValueError):
        return False


def unpack(path: Path, folder: Path, *, max_bytes: int = MAX_BYTES) -> None:
    """Unpack an archive's files into an empty folder; directories come as they are needed.

    Parameters
    ----------
    path
        The archive.
    folder
        Where to.
    max_bytes
        Cap on the sum of what is unpacked.

    Raises
    ------
    FormatError
        It is damaged or a pickle, a name leads out of the folder, or it is too large.
    UnsupportedError
        It is encrypted, or packed by an unknown method.
    SaveError
        The disk is too small for it.
    """
    refuse_pickle(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = [member for member in archive.infolist() if not _is_passed_over(member)]
            _check_members(members, path, max_bytes)
            _check_disk(sum(member.file_size for member in members), folder, path)
            for member in members:
                _unpack_member(archive, member, folder, path)
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OverflowError) as error:
        raise FormatError(f"the archive is damaged: {error}", path=path, remedy=_DAMAGED) from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # not a jump to before the file's beginning, but the disk
            raise
        raise FormatError("the archive is damaged", path=path, remedy=_DAMAGED) from None
    except (NotImplementedError, RuntimeError) as error:
        raise UnsupportedError(
            f"the archive cannot be unpacked: {error}", path=path, remedy="Unpack it yourself and open that"
        ) from None


def _is_passed_over(member: zipfile.ZipInfo) -> bool:
    """Say whether it is a folder, or something that a system's own packer adds."""
    parts = member.filename.split("/")
    return member.is_dir() or parts[0] == "__MACOSX" or parts[-1] == ".DS_Store"


def _check_members(members: list[zipfile.ZipInfo], path: Path, max_bytes: int) -> None:
    if len(members) > MAX_MEMBERS:
        raise FormatError(
            f"it holds {len(members)} files, more than {MAX_MEMBERS}",
            path=path,
            remedy="Pack the adapter alone",
        )
    names = [member.filename.casefold() for member in members]
    for member in members:
        name = member.filename
        if not _is_safe(name) or stat.S_ISLNK(member.external_attr >> 16):
            raise FormatError(
                "the name leads out of the archive",
                path=path,
                where=ascii(name)[:200],
                remedy="Do not trust this archive",
            )
        if names.count(name.casefold()) > 1:
            raise FormatError("the name stands there twice", path=path, where=name, remedy=_DAMAGED)
        if member.flag_bits & 0x1:
            raise UnsupportedError(
                "the archive is encrypted",
                path=path,
                where=name,
                remedy="Unpack it yourself and open that",
            )
        if member.file_size > max(HARMLESS_BYTES, MAX_RATIO * member.compress_size):
            raise FormatError(
                f"it would unpack to {member.file_size:,} bytes of {member.compress_size:,}",
                path=path,
                where=name,
                remedy="Do not trust this archive",
            )
    total = sum(member.file_size for member in members)
    if total > max_bytes:
        raise FormatError(
            f"it would unpack to {total:,} bytes, more than {max_bytes:,}",
            path=path,
            remedy="Unpack it yourself and open the adapter",
        )


def _is_safe(name: str) -> bool:
    """Say whether a name is a plain relative path on every system."""
    parts = name.split("/")
    plain = all(part not in ("", ".", "..") and len(part) <= 255 for part in parts)
    return plain and len(parts) <= 16 and re.search(r"[\\:\x00-\x1f\x7f]", name) is None


def _check_disk(needed: int, folder: Path, path: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise SaveError(
            f"unpacking takes {needed:,} bytes, and {folder} has {free:,}",
            path=path,
            remedy="Free some space, or unpack it yourself on another disk",
        )


def _unpack_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, folder: Path, path: Path) -> None:
    """Copy one file in chunks, and stop as soon as it is longer than it says."""
    target = folder.joinpath(*member.filename.split("/"))
    target.parent.mkdir(parents=True, exist_ok=True)
    left = member.file_size
    with archive.open(member) as source, target.open("xb") as file:
        while chunk := source.read(CHUNK_BYTES):
            left -= len(chunk)
            if left < 0:
                raise FormatError(
                    "it unpacks to more than it says", path=path, where=member.filename, remedy=_DAMAGED
                )
            file.write(chunk)
    if left:
        raise FormatError(
            "it unpacks to less than it says", path=path, where=member.filename, remedy=_DAMAGED
        )
