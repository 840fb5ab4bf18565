"""`lora-studio convert`: an adapter of any format in, the same adapter in another one out."""

from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.command_line import ExporterOptions, Json, LoaderOptions, To, parse_path
from studio.cli.output import finish, print_json
from studio.cli.verification import (
    PromptFile,
    Prompts,
    Verify,
    agreement_as_json,
    check_prompts,
    leave_if_failed,
    show_agreement,
    texts_of,
    verify_export,
)


def convert(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="An adapter.", show_default=False)],
    out: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DST", help="The file or folder to write.", parser=parse_path),
    ],
    base: Annotated[
        str | None,
        typer.Option("--base", metavar="BASE", help="Its base: for names, row order and --verify."),
    ] = None,
    to: To = None,
    alpha: Annotated[
        float | None, typer.Option("--alpha", metavar="X", help="The alpha of a file that does not say it.")
    ] = None,
    option: ExporterOptions = None,
    loader_option: LoaderOptions = None,
    verify: Verify = False,
    prompt: Prompts = None,
    file: PromptFile = None,
    as_json: Json = False,
) -> None:
    """Write an adapter in another format, at scale 1, and say what is lost.

    Without --to, a name that ends in .gguf is a stacked adapter, any other a PEFT directory.
    """
    from studio.cli.command_line import parse_options
    from studio.cli.exporters import (
        check_exporter_target,
        find_exporter,
        size_of,
        write_export,
    )
    from studio.cli.opening import known_options, open_adapter
    from studio.contracts import ExportRequest
    from studio.errors import FormatError, MismatchError, StudioError, UnsupportedError
    from studio.jobs.opening import open_base
    from studio.lora.adapter import Adapter
    from studio.lora.stand_in import OPEN_BASE, StandInBase
    from studio.registry import load_plugins
    from studio.session.session import Session

    if verify and base is None:
        raise typer.BadParameter("--verify needs --base", param_hint="--verify")
    plugins = load_plugins(context.obj.safe_mode)
    exporter = find_exporter(plugins, to, out)
    check_exporter_target(exporter, out)
    options = parse_options(option, "--option")
    check_prompts(prompt, file, verify=verify)
    texts = texts_of(prompt, file)
    alphas = [] if alpha is None else [f"alpha={alpha}"]
    loader_options = known_options([*(loader_option or ()), *alphas], plugins)
    session = Session()
    if base is not None:
        session.set_base(finish(open_base(base, plugins)))
    try:
        loaded = open_adapter(source, session.base, plugins, loader_options)
        if alpha is not None and "alpha" not in loaded.options:
            raise StudioError(
                "its file says alpha itself", path=Path(source), where="--alpha", remedy="Leave --alpha out"
            )
        adapter = loaded.adapter
        if not isinstance(adapter, Adapter):
            raise UnsupportedError(
                f"{adapter.name} is DoRA, which no exporter of adapters writes",
                remedy="Merge it into its base, which is exact, or stack it by the method svd",
            )
        session.add_adapter(loaded, 1.0)
        model = session.base or StandInBase(adapter)
        request = ExportRequest(model, session.stack.by_key, session.stack.blend)
        try:
            exported = write_export(request, exporter, out, options, verify=verify)
        except FormatError as error:
            if session.base is not None:
                raise
            raise MismatchError(error.message, where=error.where, remedy=OPEN_BASE) from error
        agreement = verify_export(session, request, out, plugins, texts) if verify else None
    finally:
        if session.base is not None:
            session.base.close()
    lost = list(loaded.report.unmatched)
    notes = [*loaded.report.notes, *exported.notes]
    result: dict[str, Any] = {
        "path": str(out),
        "format": exporter.name,
        "bytes": size_of(out),
        "modules": len(adapter.factors),
        "lost": lost,
        "notes": notes,
    }
    if agreement is not None:
        result["verified"] = agreement_as_json(agreement)
    if as_json:
        print_json(result)
    else:
        print(f"wrote {out} ({exporter.name}, {result['modules']} modules, {result['bytes'] / 1e6:.1f} MB)")
        for module in lost:
            print(f"lost: {module}")
        for note in notes:
            print(f"note: {note}")
        if agreement is not None:
            show_agreement(agreement)
    leave_if_failed(agreement)
