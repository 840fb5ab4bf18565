"""`lora-studio demo`: the demo session on the desk, or the same blend without a screen."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.command_line import parse_path
from studio.cli.desk_command import open_desk
from studio.resources import demo_session

SCREENSHOT = Path("lora-studio-demo.png")
"""Where the picture goes when no file is named."""


def demo(
    context: typer.Context,
    headless: Annotated[
        bool, typer.Option("--headless", help="Show no window: print what the blend does.")
    ] = False,
    screenshot: Annotated[
        Path | None,
        typer.Option(
            "--screenshot",
            metavar="FILE.png",
            help="Where to save a picture of the desk.",
            parser=parse_path,
        ),
    ] = None,
) -> None:
    """Show a small model with three adapters.

    Without a display the same window is drawn offscreen, its picture is saved, and what the blend does
    is printed.
    """
    from studio.gui.display import has_display, missing_library

    if not headless and screenshot is not None:
        raise typer.BadParameter("needs --headless", param_hint="--screenshot")
    if not headless and has_display():
        raise typer.Exit(open_desk(context, demo_session()))
    from studio.cli.demo_text import run_demo_as_text
    from studio.formats.atomic import check_target

    target = screenshot or SCREENSHOT
    check_target(target)
    missing = None
    try:
        from studio.gui.screenshot import picture_format, save_screenshot

        picture_format(target)
    except ImportError as error:
        missing = missing_library(error)
        if missing is None:
            raise
    run_demo_as_text(safe_mode=context.obj.safe_mode)
    if missing is not None:
        print(f"screenshot  none: {missing}")
        return
    save_screenshot(demo_session(), target, safe_mode=context.obj.safe_mode)
    print(f"screenshot  {target}")
