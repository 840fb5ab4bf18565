"""What a training on the command line leaves: the adapter written, what is said of it, and the exit code."""

import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from studio.cli.exporters import size_of, write_export
from studio.cli.output import print_json
from studio.cli.training_progress import Ended, perplexity
from studio.contracts import (
    BaseModel,
    BlendChannel,
    BlendState,
    Exporter,
    ExportRequest,
    LowRankAdapter,
    Trained,
)
from studio.errors import CancelledError, StudioError
from studio.lora.report import as_adapter
from studio.lora.saving import save_adapter

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


@dataclass(frozen=True)
class Destination:
    """Where the adapter goes: a path, who writes it, and with which options."""

    path: Path
    exporter: Exporter
    options: Mapping[str, object]


def conclude(ended: Ended, base: BaseModel, destination: Destination, *, as_json: bool) -> None:
    """Write what a run made, say so, and end the command as the run ended.

    Raises
    ------
    StudioError
        What ended the run, once its best is written; or it cannot be written. It is kept elsewhere then.
    CancelledError
        Ctrl-C ended it before there was anything to write.
    """
    trained = ended.trained
    if trained is None:
        raise CancelledError
    key = trained.adapter.name
    blend = BlendState((BlendChannel(key, trained.adapter.version, 1.0),))
    request = ExportRequest(base, {key: trained.adapter}, blend)
    try:
        exported = write_export(request, destination.exporter, destination.path, destination.options)
    except StudioError:
        _rescue(trained, base)
        raise
    size = size_of(destination.path)
    if as_json:
        print_json(
            {
                "path": str(destination.path),
                "format": destination.exporter.name,
                "bytes": size,
                "steps": trained.steps,
                "best_step": trained.best_step,
                "loss": trained.loss,
                "validation_loss": trained.validation,
                "validation_loss_before": trained.before,
                "complete": not ended.interrupted and ended.error is None,
                "notes": list(exported.notes),
            }
        )
    else:
        what = f"{destination.exporter.name}, {size / 1e6:.1f} MB"
        print(f"wrote {destination.path} ({what}): {_told(ended, trained)}")
        for note in exported.notes:
            print(f"note: {note}")
    if ended.error is not None:
        raise ended.error
    if ended.interrupted:
        sys.exit(INTERRUPTED)


def _rescue(trained: Trained, base: BaseModel) -> None:
    """Keep what hours may have gone into where it was not meant to be, and say where."""
    if not isinstance(trained.adapter, LowRankAdapter):
        return
    folder = Path(tempfile.mkdtemp(prefix="lora-studio-"))
    path = folder / "trained.gguf"
    try:
        save_adapter(path, as_adapter(trained.adapter), architecture=base.architecture)
    except StudioError:  # there as well: no empty folder stays
        folder.rmdir()
    else:
        print(f"what was learnt is kept as {path}", file=sys.stderr)


def _told(ended: Ended, trained: Trained) -> str:
    """Say what is in the file."""
    early = "interrupted" if ended.interrupted else "failed" if ended.error is not None else "finished"
    text = f"{early} after step {trained.steps}"
    if trained.best_step != trained.steps:
        text += f", the best was step {trained.best_step}"
    if trained.validation is not None:
        before = "" if trained.before is None else f"{perplexity(trained.before):.3f} -> "
        return f"{text}, validation perplexity {before}{perplexity(trained.validation):.3f}"
    return f"{text}, loss {trained.loss:.4f}"
