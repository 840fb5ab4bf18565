"""Writing an adapter that a command made, and saying what was written."""

from pathlib import Path

from studio.cli.exporters import size_of, write_export
from studio.cli.output import print_json
from studio.contracts import BaseModel, BlendChannel, BlendState, Exporter, ExportRequest
from studio.lora.adapter import Adapter


def write_adapter(adapter: Adapter, base: BaseModel, out: Path, exporter: Exporter) -> None:
    """Write an adapter of a base at scale 1. Raises `StudioError`."""
    alone = BlendState((BlendChannel(adapter.name, adapter.version, 1.0),))
    request = ExportRequest(base, {adapter.name: adapter}, alone)
    write_export(request, exporter, out, {})


def say_written(adapter: Adapter, out: Path, *, as_json: bool, error: float | None = None) -> None:
    """Print what was written: size, ranks, notes, and the error of a cut."""
    nbytes, notes = size_of(out), list(adapter.notes)
    if as_json:
        cut = {} if error is None else {"error": error}
        print_json({"path": str(out), "bytes": nbytes, "ranks": list(adapter.ranks), **cut, "notes": notes})
        return
    span = "-".join(str(rank) for rank in sorted({adapter.ranks[0], adapter.ranks[-1]}))
    print(f"wrote {out} ({nbytes / 1e6:.1f} MB): {len(adapter.modules)} modules, rank {span}")
    if error is not None:
        print(f"error: {error:.4g}")
    for note in notes:
        print(f"note: {note}")
