"""The command `lora-studio`: which subcommands there are, and what an error ends in."""

import io
import logging
import sys
from contextlib import suppress
from typing import Annotated, NoReturn

import typer

from studio.cli import (
    convert_command,
    demo_command,
    desk_command,
    eval_command,
    export_command,
    extract_command,
    generate_command,
    inspect_command,
    lint_command,
    merge_command,
    plugins_command,
    resize_command,
    search_command,
    stack_command,
    tokenize_command,
    train_command,
    verify_command,
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
app.command("lint")(lint_command.lint)
app.command("tokenize")(tokenize_command.tokenize)
app.command("eval")(eval_command.evaluate)
app.command("generate")(generate_command.generate)
app.command("stack")(stack_command.stack)
app.command("merge")(merge_command.merge)
app.command("export")(export_command.export)
app.command("convert")(convert_command.convert)
app.command("verify")(verify_command.verify)
app.command("resize")(resize_command.resize)
app.command("extract")(extract_command.extract)
app.command("train")(train_command.train)
app.command("search")(search_command.search)
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
        try:
            app(prog_name="lora-studio")
        finally:
            sys.stdout.flush()  # a full disk or a reader that is gone shows here at the latest
    except StudioError as error:
        fail(str(error))
    except MemoryError:
        fail("the memory ran out. Shorten the text, or open a smaller base.")
    except BrokenPipeError:  # whoever read the output wants no more of it
        drop_output()
        sys.exit(1)
    except OSError as error:
        drop_output()
        fail(f"{error.filename or 'input or output failed'}: {error.strerror or error}")
    except (KeyboardInterrupt, CancelledError):
        sys.exit(INTERRUPTED)


def fail(message: str) -> NoReturn:
    """Say in one line what went wrong, and leave."""
    print(f"lora-studio: {message}", file=sys.stderr)
    sys.exit(1)


def drop_output() -> None:
    """Let go of output that cannot be written, which Python would try once more on its way out."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            sys.stdout.close()
