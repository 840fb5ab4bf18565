"""`lora-studio extract`: an adapter out of a base and a model tuned from it."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.combination import Energy
from studio.cli.command_line import Base, Json, parse_path
from studio.cli.output import finish


def extract(
    context: typer.Context,
    base: Base,
    tuned: Annotated[
        str,
        typer.Argument(
            metavar="TUNED", help="The tuned model: GGUF, or a folder with safetensors.", show_default=False
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("-o", "--output", metavar="DST.gguf", help="The file to write.", parser=parse_path),
    ],
    rank: Annotated[int, typer.Option("--rank", min=1, max=4096, help="At most this rank.")] = 16,
    energy: Energy = 1.0,
    as_json: Json = False,
) -> None:
    """Write what fine-tuning changed as an adapter (GGUF).

    Every module becomes the best approximation of the difference of both weights that has the rank.
    """
    from studio.cli.adapter_writing import say_written, write_adapter
    from studio.contracts import BaseModel
    from studio.formats.atomic import check_target
    from studio.jobs.opening import open_base
    from studio.lora.algebra import RankLimit
    from studio.lora.extraction import extract as extracted
    from studio.lora.tuned_weights import HuggingFaceWeights
    from studio.registry import load_plugins
    from studio.resources import resolve

    check_target(out)
    plugins = load_plugins(context.obj.safe_mode)
    host = finish(open_base(base, plugins)).base
    opened: BaseModel | HuggingFaceWeights | None = None
    try:
        path = resolve(tuned).expanduser()
        opened = HuggingFaceWeights(path, host) if path.is_dir() else finish(open_base(tuned, plugins)).base
        adapter = finish(extracted(host, opened, RankLimit(rank, energy)))
        check_target(out, protected=[path])
        write_adapter(adapter, host, out, plugins)
        facts = {"notes": "; ".join(adapter.notes)} if adapter.notes else {}
        say_written(adapter, out, facts, as_json=as_json)
    finally:
        host.close()
        if isinstance(opened, BaseModel):
            opened.close()
