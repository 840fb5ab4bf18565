"""`lora-studio resize`: what an adapter would lose at a smaller rank, and the adapter cut to one."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.combination import Energy, Rank
from studio.cli.command_line import Alpha, Json, LoaderOptions, parse_path, with_alpha
from studio.cli.output import finish, print_json, print_table


def resize(
    context: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SRC", help="An adapter.", show_default=False)],
    out: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DST.gguf", help="The file to write.", parser=parse_path),
    ] = None,
    rank: Rank = 0,
    energy: Energy = 1.0,
    sv_ratio: Annotated[
        float, typer.Option("--sv-ratio", min=0, help="Keep singular values above the largest over this.")
    ] = 0.0,
    sv_fro: Annotated[
        float, typer.Option("--sv-fro", min=0, max=1, help="Keep this share of the Frobenius norm.")
    ] = 1.0,
    sv_cumulative: Annotated[
        float, typer.Option("--sv-cumulative", min=0, max=1, help="Keep this share of the sum of values.")
    ] = 1.0,
    base: Annotated[
        str | None, typer.Option("--base", metavar="BASE", help="Its base: for names and the order of rows.")
    ] = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    as_json: Json = False,
) -> None:
    """Cut an adapter to a smaller rank (GGUF).

    Every module becomes the best approximation of its rank; the strictest limit decides. Without -o it shows
    the error of every rank.
    """
    from studio.cli.adapter_writing import say_written, write_adapter
    from studio.cli.exporters import find_exporter
    from studio.cli.opening import known_options, open_adapter
    from studio.errors import UnsupportedError
    from studio.formats.atomic import check_target
    from studio.jobs.exporting import STACKED
    from studio.jobs.opening import open_base
    from studio.lora.adapter import Adapter
    from studio.lora.algebra import RankLimit, cut_error, error_curve
    from studio.lora.resizing import resize as resized
    from studio.lora.resizing import spectra
    from studio.lora.stand_in import StandInBase
    from studio.registry import load_plugins

    limit = RankLimit(rank, energy, sv_ratio, sv_fro, sv_cumulative)
    if out is not None:
        check_target(out)
        if not limit:
            raise typer.BadParameter("give a limit, such as --rank 8")
    plugins = load_plugins(context.obj.safe_mode)
    options = known_options(with_alpha(loader_option, alpha), plugins)
    host = None if base is None else finish(open_base(base, plugins)).base
    try:
        adapter = open_adapter(source, host, plugins, options).adapter
        if not isinstance(adapter, Adapter):
            raise UnsupportedError(
                f"{adapter.name} is DoRA, whose delta has no rank of its own",
                remedy="Stack it with --rank, which cuts its exact delta",
            )
        values = finish(spectra(adapter))
        if out is not None:
            cut = finish(resized(adapter, limit))
            write_adapter(cut, host or StandInBase(cut), out, find_exporter(plugins, STACKED, out))
            error = cut_error(values, [cut.rank(module) for module in adapter.modules])
            say_written(cut, out, as_json=as_json, error=error)
            return
    finally:
        if host is not None:
            host.close()
    curve = error_curve(values)
    if as_json:
        print_json({"path": source, "errors": curve.tolist()})
    else:
        rows = [[str(number), f"{error:.4f}"] for number, error in enumerate(curve)]
        print_table([["rank", "error"], *rows], right=(0, 1))
