"""Finds the adapter that a path stands for: itself, or the only one in a folder or a zip archive."""

from __future__ import annotations

import logging
import os
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from studio.errors import FormatError, StudioError
from studio.formats.archive import is_zip, unpack
from studio.formats.pickle_guard import refuse_pickle
from studio.lora.adapter import listing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import AdapterLoader, ModelLoader

logger = logging.getLogger(__name__)

LoaderT = TypeVar("LoaderT", "ModelLoader", "AdapterLoader")

MAX_DEPTH = 3
"""How many folders deep an adapter may lie."""

MAX_ENTRIES = 2000
"""How many files and folders are looked at: a home folder is no adapter."""


@dataclass(frozen=True)
class FoundAdapter:
    """An adapter and where it lies.

    Attributes
    ----------
    loader
        The loader that recognises it.
    path
        The file or folder to load, perhaps a temporary one.
    source
        The file or folder that it comes from and that stays: an archive, where it was in one.
    """

    loader: AdapterLoader
    path: Path
    source: Path


def recognising(path: Path, loaders: Sequence[LoaderT]) -> LoaderT | None:
    """Return the first loader that recognises the path. A loader that breaks recognises nothing."""
    for loader in loaders:
        try:
            recognised = loader.recognises(path)
        except Exception:
            logger.exception("the loader %r failed to look at %s", loader.name, path)
            continue
        if recognised:
            return loader
    return None


@contextmanager
def found_adapter(path: Path, loaders: Sequence[AdapterLoader]) -> Iterator[FoundAdapter | None]:
    """Give the adapter that a path stands for, or None; what was unpacked for it is removed afterwards.

    A path that a loader recognises is that adapter, whatever else lies in it. A folder, or an archive that
    is none of a loader's own, stands for the one adapter in it. Archives in archives are not looked into.

    Raises
    ------
    FormatError
        There are several, or it is a pickle, or a damaged or hostile archive. Errors about what an archive
        holds name the archive.
    UnsupportedError
        The archive is encrypted.
    """
    if loader := recognising(path, loaders):
        yield FoundAdapter(loader, path, path)
    elif path.is_dir():
        yield _only_adapter(path, loaders)
    elif is_zip(path):
        with tempfile.TemporaryDirectory(prefix="lora-studio-") as temporary:
            folder = Path(temporary) / (path.stem or "adapter")
            folder.mkdir()
            try:
                unpack(path, folder)
                found = recognising(folder, loaders)
                inside = FoundAdapter(found, folder, path) if found else _only_adapter(folder, loaders)
                yield FoundAdapter(inside.loader, inside.path, path) if inside else None
            except StudioError as error:
                if error.path is not None and error.path.is_relative_to(folder):
                    error.path = path / error.path.relative_to(folder)
                raise
    else:
        yield None


def holds_adapter(path: Path, loaders: Sequence[AdapterLoader]) -> bool:
    """Say whether a path is an adapter or holds one; of a zip archive loading it tells. Never raises."""
    if is_zip(path) or recognising(path, loaders):
        return True
    try:
        return path.is_dir() and bool(_adapters_in(path, loaders))
    except (OSError, StudioError):
        return False


def _only_adapter(folder: Path, loaders: Sequence[AdapterLoader]) -> FoundAdapter | None:
    found = _adapters_in(folder, loaders)
    if len(found) > 1:
        names = [str(one.path.relative_to(folder)) for one in found]
        raise FormatError(
            f"it holds {len(found)} adapters: {listing(names, 5)}", path=folder, remedy="Choose one of them"
        )
    return found[0] if found else None


def _adapters_in(folder: Path, loaders: Sequence[AdapterLoader]) -> list[FoundAdapter]:
    """Return the adapters in a folder, by name. A folder that is one is not looked into."""
    found: list[FoundAdapter] = []
    pickles: list[StudioError] = []
    waiting, seen = [(folder, 0)], 0
    while waiting:
        current, depth = waiting.pop()
        with os.scandir(current) as entries:
            names = sorted(entry.name for _, entry in zip(range(MAX_ENTRIES + 1), entries, strict=False))
        for name in names:
            seen += 1
            if seen > MAX_ENTRIES:
                raise FormatError(
                    f"the folder holds more than {MAX_ENTRIES} files",
                    path=folder,
                    remedy="Choose the adapter",
                )
            path = current / name
            if name.startswith(".") or path.is_symlink():
                continue
            if loader := recognising(path, loaders):
                found.append(FoundAdapter(loader, path, path))
            elif path.is_dir() and depth + 1 < MAX_DEPTH:
                waiting.append((path, depth + 1))
            elif path.is_file():
                try:
                    refuse_pickle(path)
                except StudioError as error:
                    pickles.append(error)
    if not found and pickles:
        raise pickles[0]
    return sorted(found, key=lambda one: one.path)
