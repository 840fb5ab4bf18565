"""Asks whether a disk has room for a file, before the work whose result it is for."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from studio.errors import SaveError

if TYPE_CHECKING:
    from pathlib import Path

RESERVE = 16 << 20
"""What is left free, in bytes: headers, the folder itself, other programs."""


def require_space(path: Path, nbytes: int) -> None:
    """Refuse to begin what its disk has no room for.

    Parameters
    ----------
    path
        The target. What stands there is kept until the new one is whole, so its room does not count.
    nbytes
        How much will be written.

    Raises
    ------
    SaveError
        The disk has less than `nbytes` and a small reserve free.
    """
    try:
        free = shutil.disk_usage(path.resolve().parent).free
    except OSError:  # nobody can tell; the writing itself will
        return
    if free < nbytes + RESERVE:
        raise SaveError(
            f"it takes {nbytes / 1e6:,.0f} MB, and the disk has {free / 1e6:,.0f} MB free",
            path=path,
            remedy="Free some space or save to another disk",
        )
