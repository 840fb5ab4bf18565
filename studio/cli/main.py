"""The command `lora-studio`: which subcommands there are, and what an error ends in."""

import io
import logging
import sys
from typing import Annotated

import typer

from studio.cli import (
    demo_command,
    desk_command,
    eval_command,
    generate_command,
    inspect_command,
    plugins_command,
    stack_command,
    tokenize_command,
)
from studio.cli.command_line import DeskByDefault, Options
from studio.errors import CancelledError, StudioError

INTERRUPTED = 130
"""The exit code after Ctrl-C, as shells have it: 128 + SIGINT."""

app = typer.Typer(
    cls=DeskByDefault,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    subcommand_metavar="[SESSION | COMMAND ...]",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("desk", hidden=True)(desk_command.desk)
app.command("demo")(demo_command.demo)
app.command("inspect")(inspect_command.inspect)
app.command("tokenize")(tokenize_command.tokenize)
app.command("eval")(eval_command.evaluate)
app.command("generate")(generate_command.generate)
app.command("stack")(stack_command.stack)
app.command("plugins")(plugins_command.plugins)


def show_version(wanted: bool) -> None:
    """Print the version and leave."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"lora-studio {version('lora-studio')}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def studio(
    context: typer.Context,
    safe_mode: Annotated[
        bool, typer.Option("--safe-mode", help="Load no plugins but the studio's own.")
    ] = False,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=show_version, is_eager=True)
    ] = False,
) -> None:
    """LoRA Studio: a mixing desk for LoRA adapters.

    Without a command it opens the desk, with SESSION if one is named.
    """
    context.obj = Options(safe_mode=safe_mode)
    if context.invoked_subcommand is None:
        desk_command.desk(context, None)


def main() -> None:
    """Run the command line: exits 0, 1 for a refused input, 2 for wrong usage, 130 after Ctrl-C."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A pipe on Windows is not UTF-8 by itself, and a path need not be Unicode.
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    logging.basicConfig(
        stream=sys.stderr, level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s"
    )
    try:
        app(prog_name="lora-studio")
    except StudioError as error:
        print(f"lora-studio: {error}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, CancelledError):
        sys.exit(INTERRUPTED)
