"""File names to save under: the right suffix, and one that is still free."""

from __future__ import annotations

from itertools import count
from pathlib import Path


def path_of(text: str) -> Path:
    """Return what a user typed as a path; ``~`` is the home folder where there is one."""
    path = Path(text.strip())
    try:
        return path.expanduser()
    except RuntimeError:  # a user who is not known here
        return path


def names_a_file(path: Path) -> bool:
    """Say whether a path can name a file to write: it has a name, and no folder has it."""
    try:
        return path.name not in ("", "..") and "\0" not in path.name and not path.is_dir()
    except OSError:  # a name that is too long
        return False


def with_suffix(path: Path, suffix: str, *others: str) -> Path:
    """Return a path that ends in `suffix`, appended unless it or one of `others` is there already.

    A dot in the name is part of the name: ``blend v1.5`` becomes ``blend v1.5.gguf``.
    """
    right = path.name.lower().endswith(tuple(ending.lower() for ending in (suffix, *others)))
    return path if right or not names_a_file(path) else path.with_name(path.name + suffix)


def free_path(path: Path) -> Path:
    """Return the path, or the first of ``name-2``, ``name-3`` and so on that does not exist."""
    if not path.exists():
        return path
    numbered = (path.with_name(f"{path.stem}-{number}{path.suffix}") for number in count(2))
    return next(one for one in numbered if not one.exists())
