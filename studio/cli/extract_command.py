"""`lora-studio extract`: an adapter out of a base and a model tuned from it."""

from pathlib import Path
from typing import Annotated

import typer

from studio.cli.combination import Energy
from studio.cli.command_line import Base, Json, To, parse_path
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
        typer.Option("-o", "--output", metavar="DST", help="The file or folder to write.", parser=parse_path),
    ],
    to: To = None,
    rank: Annotated[int, typer.Option("--rank", min=1, max=4096, help="At most this rank.")] = 16,
    energy: Energy = 1.0,
    as_json: Json = False,
) -> None:
    """Write what fine-tuning changed as an adapter.

    Every module becomes the best approximation of the difference of both weights that has the rank. Without
    --to, a name that ends in .gguf is a stacked adapter, any other a PEFT directory.
    """
    from studio.cli.adapter_writing import say_written, write_adapter
    from studio.cli.exporters import check_exporter_target, find_exporter
    from studio.contracts import BaseModel
    from studio.engine.model import EMBEDDING, HEAD
    from studio.jobs.exporting import STACKED
    from studio.jobs.opening import open_base
    from studio.lora.algebra import RankLimit
    from studio.lora.extraction import extract as extracted
    from studio.lora.tuned_weights import HuggingFaceWeights
    from studio.registry import load_plugins
    from studio.resources import resolve

    plugins = load_plugins(context.obj.safe_mode)
    exporter = find_exporter(plugins, to, out)
    check_exporter_target(exporter, out)
    host = finish(open_base(base, plugins)).base
    opened: BaseModel | HuggingFaceWeights | None = None
    try:
        path = resolve(tuned).expanduser()
        opened = HuggingFaceWeights(path, host) if path.is_dir() else finish(open_base(tuned, plugins)).base
        check_exporter_target(exporter, out, [*host.files, path])
        # what llama.cpp refuses, so that a tuned embedding leaves the rest to be had
        left_out = {EMBEDDING} if exporter.name == STACKED and HEAD not in host.tensors else set()
        adapter = finish(extracted(host, opened, RankLimit(rank, energy), left_out))
        write_adapter(adapter, host, out, exporter)
        say_written(adapter, out, as_json=as_json)
    finally:
        host.close()
        if isinstance(opened, BaseModel):
            opened.close()
