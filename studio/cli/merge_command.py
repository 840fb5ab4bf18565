"""`lora-studio merge`: write base and blend as one GGUF model."""

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

EXPORTER = "merged base (GGUF)"
"""The name of the exporter that merges."""

KEEP = "keep"
"""Every tensor keeps its type."""


def parse_budget(text: str | float) -> float:
    """Read ``1.3x`` or ``1.3``; the default is a number already.

    Raises
    ------
    typer.BadParameter
        If it is no number.
    """
    try:
        return float(str(text).lower().removesuffix("x"))
    except ValueError:
        raise typer.BadParameter(f"{text!r} is no multiple of the size such as 1.3x") from None


def merge(
    context: typer.Context,
    base: Base,
    adapter: BlendAdapters,
    out: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="OUT.gguf", help="The file to write.", parser=parse_path),
    ],
    type_name: Annotated[
        str,
        typer.Option(
            "--type",
            metavar="T",
            help="keep, or a type of llama.cpp such as F16 or Q4_K_M.",
            parser=lambda text: KEEP if text.lower() == KEEP else text.upper(),
        ),
    ] = KEEP,
    rounding: Annotated[
        Literal["auto", "nearest", "unbiased", "calibrated"],
        typer.Option("--rounding", help="How quantised weights are rounded."),
    ] = "auto",
    calibration: Annotated[
        Path | None,
        typer.Option(
            "--calibration",
            metavar="F",
            help="A text to calibrate on; without one the blend writes its own.",
            parser=parse_path,
        ),
    ] = None,
    budget: Annotated[
        float,
        typer.Option(
            "--budget",
            metavar="1.3x",
            help="How large the file may become: what suffers most gets a finer type.",
            parser=parse_budget,
        ),
    ] = 1.0,
    imatrix: Annotated[
        Path | None,
        typer.Option("--imatrix", metavar="F", help="An importance matrix.", parser=parse_path),
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, max=2**31 - 1, help="Of what is random.")] = 0,
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
    """Write base and blend as one model (GGUF).

    Every tensor keeps its type unless --type says another. Weights that are quantised are rounded so that
    most of the blend is kept, and the command says how much of it is.
    """
    from studio.cli.combination import find_combination
    from studio.cli.exporters import find_exporter, write_export
    from studio.cli.opening import open_session
    from studio.contracts import ExportRequest
    from studio.formats.atomic import check_target
    from studio.jobs.merge_options import Merged
    from studio.registry import load_plugins

    check_target(out)
    check_prompts(prompt, file, verify=verify)
    texts = texts_of(prompt, file)
    plugins = load_plugins(context.obj.safe_mode)
    exporter = find_exporter(plugins, EXPORTER, out)
    combination = find_combination(plugins, method, method_option, rank, energy)
    options: dict[str, object] = {
        "type": type_name,
        "rounding": rounding,
        "calibration": str(calibration or ""),
        "budget": budget,
        "imatrix": str(imatrix or ""),
        "seed": seed,
    }
    with open_session(base, adapter, plugins, with_alpha(loader_option, alpha), gains) as session:
        assert session.base is not None
        request = ExportRequest(session.base, session.stack.by_key, session.stack.blend, combination)
        merged = write_export(request, exporter, out, options)
        assert isinstance(merged, Merged)
        agreement = verify_export(session, request, out, plugins, texts) if verify else None
    if as_json:
        print_json(
            {
                "path": str(out),
                "bytes": out.stat().st_size,
                "rounding": merged.rounding,
                "notes": list(merged.notes),
                "types": {one.module: one.type_name for one in merged.kept},
                "kept": {one.module: {"kept": one.kept, "error": one.error} for one in merged.kept},
                **({} if agreement is None else {"verified": agreement_as_json(agreement)}),
            }
        )
    else:
        print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB, {merged.rounding} rounding)")
        for note in merged.notes:
            print(note)
        if agreement is not None:
            show_agreement(agreement)
    leave_if_failed(agreement)
