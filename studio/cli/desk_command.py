"""`lora-studio [SESSION]`: open the desk."""

import os
from pathlib import Path
from typing import Annotated

import typer

from studio.errors import SessionError, StudioError


def desk(
    context: typer.Context,
    session: Annotated[Path | None, typer.Argument(metavar="[SESSION]", help="A session file.")] = None,
) -> None:
    """Open the desk, with a session if one is named."""
    if session is not None and not session.is_file():
        raise SessionError("there is no such file", path=session, remedy="Name a session file")
    raise typer.Exit(open_desk(context, session))


def open_desk(context: typer.Context, session: Path | None) -> int:
    """Open the window and return the exit code once it is closed. The one place that imports Qt for it.

    Raises
    ------
    StudioError
        If there is no display, or a system library that Qt needs is missing.
    """
    from studio.gui.display import has_display, missing_library

    if not has_display() and "QT_QPA_PLATFORM" not in os.environ:
        raise StudioError(
            "there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set",
            remedy="Use the subcommands (lora-studio --help), or look at: lora-studio demo",
        )
    try:
        from studio.gui.desk import run_desk
    except ImportError as error:
        missing = missing_library(error)
        if missing is None:
            raise
        raise StudioError(missing) from error
    return run_desk(session, safe_mode=context.obj.safe_mode)
