"""`lora-studio export`: write a blend by any exporter there is."""

from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.combination import Energy, Method, MethodOptions, Rank
from studio.cli.command_line import (
    AdapterGains,
    Alpha,
    Base,
    BlendAdapters,
    ExporterOptions,
    Json,
    LoaderOptions,
    To,
    parse_path,
    with_alpha,
)
from studio.cli.output import print_json
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


def export(
    context: typer.Context,
    base: Base,
    adapter: BlendAdapters,
    out: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DST", help="The file or folder to write.", parser=parse_path),
    ],
    to: To = None,
    option: ExporterOptions = None,
    gains: AdapterGains = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    method: Method = None,
    method_option: MethodOptions = None,
    rank: Rank = 0,
    energy: Energy = 1.0,
    verify: Verify = False,
    prompt: Prompts = None,
    file: PromptFile = None,
    as_json: Json = False,
) -> None:
    """Write the blend in any format there is an exporter for.

    Without --to, a name that ends in .gguf is a stacked adapter, any other a PEFT directory.
    """
    from studio.cli.combination import find_combination
    from studio.cli.command_line import parse_options
    from studio.cli.exporters import (
        check_exporter_target,
        find_exporter,
        size_of,
        write_export,
    )
    from studio.cli.opening import open_session
    from studio.contracts import ExportRequest
    from studio.registry import load_plugins

    plugins = load_plugins(context.obj.safe_mode)
    exporter = find_exporter(plugins, to, out)
    check_exporter_target(exporter, out)
    options = parse_options(option, "--option")
    combination = find_combination(plugins, method, method_option, rank, energy)
    check_prompts(prompt, file, verify=verify)
    texts = texts_of(prompt, file)
    with open_session(base, adapter, plugins, with_alpha(loader_option, alpha), gains) as session:
        assert session.base is not None
        request = ExportRequest(session.base, session.stack.by_key, session.stack.blend, combination)
        exported = write_export(request, exporter, out, options, verify=verify)
        agreement = verify_export(session, request, out, plugins, texts) if verify else None
    result: dict[str, Any] = {
        "path": str(out),
        "format": exporter.name,
        "bytes": size_of(out),
        "notes": list(exported.notes),
    }
    if agreement is not None:
        result["verified"] = agreement_as_json(agreement)
    if as_json:
        print_json(result)
    else:
        print(f"wrote {out} ({exporter.name}, {result['bytes'] / 1e6:.1f} MB)")
        for note in exported.notes:
            print(f"note: {note}")
        if agreement is not None:
            show_agreement(agreement)
    leave_if_failed(agreement)
