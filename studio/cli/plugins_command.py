"""`lora-studio plugins`: which plugins there are, what they provide, and which failed."""

import typer

from studio.cli.command_line import Json
from studio.cli.output import print_json, print_table


def plugins(context: typer.Context, as_json: Json = False) -> None:
    """List what each plugin provides, or why it failed."""
    from studio.registry import load_plugins

    statuses = load_plugins(context.obj.safe_mode).statuses
    if as_json:
        print_json(
            {
                "plugins": [
                    {
                        "name": status.name,
                        "distribution": status.distribution,
                        "version": status.version,
                        "provides": list(status.provides),
                        "error": None if status.error is None else str(status.error),
                    }
                    for status in statuses
                ]
            }
        )
        return
    print_table(
        [
            [
                status.name,
                f"{status.distribution} {status.version}",
                f"failed: {status.error}" if status.error else ", ".join(status.provides),
            ]
            for status in statuses
        ]
    )
