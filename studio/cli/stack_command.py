"""`lora-studio stack`: write a blend as one adapter that llama.cpp loads."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from studio.cli.command_line import (
    AdapterGains,
    Alpha,
    Base,
    Json,
    LoaderOptions,
    parse_path,
    with_alpha,
)
from studio.cli.output import finish, print_json

EXPORTER = "stacked adapter (GGUF)"
"""The name of the exporter that writes the stack."""


def stack(
    context: typer.Context,
    base: Base,
    adapter: Annotated[
        list[str],
        typer.Option("--adapter", metavar="PATH[:SCALE]", help="An adapter and its scale. Repeatable."),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT.gguf", help="The file to write.", parser=parse_path),
    ],
    gains: AdapterGains = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    type_name: Annotated[
        Literal["F32", "F16"], typer.Option("--type", help="How to store the weights.")
    ] = "F32",
    as_json: Json = False,
) -> None:
    """Write the blend as one adapter (GGUF).

    The stacked adapter is exact, by concatenation. Loaded at scale 1 it gives the blend.
    """
    from studio.cli.opening import open_session
    from studio.contracts import ExportRequest
    from studio.errors import UnsupportedError
    from studio.formats.atomic import check_target
    from studio.jobs.exporting import export
    from studio.registry import load_plugins

    check_target(out)
    plugins = load_plugins(context.obj.safe_mode)
    exporter = next((one for one in plugins.exporters if one.name == EXPORTER), None)
    if exporter is None:
        raise UnsupportedError(
            f"no plugin provides the exporter {EXPORTER!r}", remedy="Look at: lora-studio plugins"
        )
    with open_session(base, adapter, plugins, with_alpha(loader_option, alpha), gains) as session:
        assert session.base is not None
        request = ExportRequest(session.base, session.stack.by_key, session.stack.blend)
        finish(export(request, exporter, out, exporter.Options(type=type_name)))
    if as_json:
        print_json({"path": str(out), "bytes": out.stat().st_size})
    else:
        print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
