"""`lora-studio stack`: write a blend as one adapter that llama.cpp loads."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from studio.cli.combination import Energy, Method, MethodOptions, Rank
from studio.cli.command_line import (
    AdapterGains,
    Alpha,
    Base,
    BlendAdapters,
    Json,
    LoaderOptions,
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


def stack(
    context: typer.Context,
    base: Base,
    adapter: BlendAdapters,
    out: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT.gguf", help="The file to write.", parser=parse_path),
    ],
    gains: AdapterGains = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    method: Method = None,
    method_option: MethodOptions = None,
    rank: Rank = 0,
    energy: Energy = 1.0,
    type_name: Annotated[
        Literal["F32", "F16", "BF16", "Q8_0"],
        typer.Option("--type", case_sensitive=False, help="How to store the weights."),
    ] = "F32",
    uniform_rank: Annotated[
        bool, typer.Option("--uniform-rank", help="One rank for all modules, filled up with zeros.")
    ] = False,
    modelfile: Annotated[
        bool, typer.Option("--modelfile", help="Write a Modelfile for Ollama beside it.")
    ] = False,
    verify: Verify = False,
    prompt: Prompts = None,
    file: PromptFile = None,
    as_json: Json = False,
) -> None:
    """Write the blend as one adapter (GGUF).

    The stacked adapter is exact, by concatenation, unless a method, rank or energy is given. Loaded at scale
    1 it gives the blend.
    """
    from studio.cli.combination import find_combination
    from studio.cli.exporters import find_exporter, write_export
    from studio.cli.opening import open_session
    from studio.contracts import ExportRequest
    from studio.formats.atomic import check_target
    from studio.jobs.exporting import STACKED
    from studio.lora.serving import llama_server_command
    from studio.registry import load_plugins

    check_target(out)
    check_prompts(prompt, file, verify=verify)
    texts = texts_of(prompt, file)
    plugins = load_plugins(context.obj.safe_mode)
    exporter = find_exporter(plugins, STACKED, out)
    combination = find_combination(plugins, method, method_option, rank, energy)
    options: dict[str, object] = {"type": type_name, "uniform_rank": uniform_rank, "modelfile": modelfile}
    with open_session(base, adapter, plugins, with_alpha(loader_option, alpha), gains) as session:
        assert session.base is not None
        request = ExportRequest(session.base, session.stack.by_key, session.stack.blend, combination)
        write_export(request, exporter, out, options)
        command = llama_server_command(session.base.path, out)
        agreement = verify_export(session, request, out, plugins, texts) if verify else None
    if as_json:
        proof = {} if agreement is None else {"verified": agreement_as_json(agreement)}
        print_json({"path": str(out), "bytes": out.stat().st_size, **proof})
    else:
        print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB)")
        print(f"serve it: {command}")
        if agreement is not None:
            show_agreement(agreement)
    leave_if_failed(agreement)
