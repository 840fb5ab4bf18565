"""Writing an adapter that a command made, as llama.cpp's GGUF, and saying what was written."""

from pathlib import Path
from typing import Any

from studio.cli.exporters import find_exporter, write_export
from studio.cli.output import print_json
from studio.contracts import BaseModel, BlendChannel, BlendState, ExportRequest, Plugins
from studio.jobs.exporting import STACKED
from studio.lora.adapter import Adapter


def write_adapter(adapter: Adapter, base: BaseModel, out: Path, plugins: Plugins) -> None:
    """Write an adapter of a base at scale 1. Raises `StudioError`."""
    exporter = find_exporter(plugins, STACKED, out)
    alone = BlendState((BlendChannel(adapter.name, adapter.version, 1.0),))
    request = ExportRequest(base, {adapter.name: adapter}, alone)
    write_export(request, exporter, out, {})


def say_written(adapter: Adapter, out: Path, facts: dict[str, Any], *, as_json: bool) -> None:
    """Print what was written: size, ranks, and further facts by name."""
    if as_json:
        ranks = list(adapter.ranks)
        print_json({"path": str(out), "bytes": out.stat().st_size, "ranks": ranks, **facts})
        return
    span = "-".join(str(rank) for rank in sorted({adapter.ranks[0], adapter.ranks[-1]}))
    print(f"wrote {out} ({out.stat().st_size / 1e6:.1f} MB): {len(adapter.modules)} modules, rank {span}")
    for name, value in facts.items():
        print(f"{name}: {value:.4g}" if isinstance(value, float) else f"{name}: {value}")
