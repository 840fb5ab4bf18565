"""`lora-studio demo`: the demo session on the desk, or the same blend without a screen."""

from pathlib import Path
from typing import Annotated

import typer

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
        typer.Option("--screenshot", metavar="FILE.png", help="Where to save a picture of the desk."),
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

    run_demo_as_text(safe_mode=context.obj.safe_mode)
    target = screenshot or SCREENSHOT
    try:
        from studio.gui.screenshot import save_screenshot
    except ImportError as error:
        missing = missing_library(error)
        if missing is None:
            raise
        print(f"screenshot  none: {missing}")
        return
    save_screenshot(demo_session(), target, safe_mode=context.obj.safe_mode)
    print(f"screenshot  {target}")
