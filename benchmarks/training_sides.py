"""Two trainings of the same: ours and PEFT's, on the same base and examples, from the same adapter."""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.bench_memory import peak_of
from benchmarks.peer_process import PeerProcess
from studio.cli.output import finish
from studio.contracts import BlendChannel, BlendState, ExportRequest
from studio.learning.options import split_targets
from studio.lora.creation import create_adapter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from studio.contracts import BaseModel, Plugins
    from studio.learning.options import LoraOptions

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Step:
    """What one step took and said."""

    milliseconds: float
    loss: float
    norm: float


class TrainingSide:
    """One of the two: a process that takes a step when it is asked to."""

    def __init__(self, process: PeerProcess, sequences: Sequence[Sequence[int]], batch: int) -> None:
        self._process = process
        self._sequences = sequences
        self._batch = batch
        self._steps = 0

    def step(self) -> Step:
        """Take the next step."""
        first = self._steps * self._batch
        self._steps += 1
        batch = [list(tokens) for tokens in self._sequences[first : first + self._batch]]
        return Step(**self._process.ask("step", sequences=batch))

    @property
    def peak(self) -> float:
        """The most memory that it has had, in MB."""
        return peak_of(self._process.pid)


@contextmanager
def open_training(
    python: str | None,
    base: BaseModel,
    plugins: Plugins,
    sequences: Sequence[Sequence[int]],
    options: LoraOptions,
) -> Iterator[list[TrainingSide]]:
    """Open ours and, with the peers' environment, PEFT's.

    Parameters
    ----------
    python
        Of the peers' environment.
    base
        What both learn on; PEFT has it in float32.
    plugins
        Whose exporters write the base and the adapter for PEFT.
    sequences
        Of one length, enough for all steps.
    options
        Of a constant rate and in the examples' order, which PEFT is given.
    """
    assert options.schedule == "constant" and not (options.shuffle or options.warm_up)
    with ExitStack() as stack:
        ours = PeerProcess("ours", sys.executable, HERE / "our_training.py")
        stack.callback(ours.close)
        ours.ask("open", base=str(base.path), sequences=sequences, options=asdict(options))
        sides = [TrainingSide(ours, sequences, options.batch)]
        if python is not None:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            write_for_peft(base, plugins, options, folder)
            theirs = PeerProcess("PEFT", python, HERE / "peers" / "peft_train.py")
            stack.callback(theirs.close)
            theirs.ask(
                "open",
                model=str(folder / "model"),
                adapter=str(folder / "adapter"),
                rate=options.learning_rate,
                weight_decay=0.0,
                clipping=options.clipping,
            )
            sides.append(TrainingSide(theirs, sequences, options.batch))
        yield sides


def write_for_peft(base: BaseModel, plugins: Plugins, options: LoraOptions, folder: Path) -> None:
    """Write the base and the adapter that a run begins with: what it adds to the base is zero."""
    adapter = create_adapter(
        base, rank=options.rank, alpha=options.alpha, targets=split_targets(options), seed=options.seed
    )
    alone = BlendState((BlendChannel("new", adapter.version, 1.0),))
    request = ExportRequest(base, {"new": adapter}, alone)
    exporters = {one.name: one for one in plugins.exporters}
    model, peft = exporters["merged model (Hugging Face)"], exporters["PEFT directory"]
    finish(model.export(request, folder / "model", model.Options(type="F32")))
    finish(peft.export(request, folder / "adapter", peft.Options()))
