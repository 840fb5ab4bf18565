"""A run of training on disk: one file that is replaced whole, so that a killed run goes on where it was."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated

import msgspec

from studio.errors import FormatError, MismatchError, SaveError
from studio.formats.atomic import save_error, write_atomically
from studio.formats.disk_space import require_space
from studio.formats.safetensors_file import read_safetensors, read_safetensors_metadata
from studio.formats.safetensors_writer import PendingTensor, write_safetensors
from studio.learning.stopping import Best

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import FloatArray
    from studio.lora.adapter import Adapter

FILE = "training.safetensors"
KEY = "lora_studio.training"

Count = Annotated[int, msgspec.Meta(ge=0)]

DAMAGED = "Begin a new run in another folder"


@dataclass(frozen=True)
class RunState:
    """All that a run is after a step. What is random in it follows from the seed and the step.

    Attributes
    ----------
    step
        How many steps were made.
    adapter
        As it stands.
    optimiser
        What its run keeps.
    losses
        Of the last steps.
    best, best_adapter
        What validation found to be the best.
    before
        The validation loss before the first step, where there is validation.
    """

    step: int
    adapter: Adapter
    optimiser: Mapping[str, FloatArray]
    losses: tuple[float, ...]
    best: Best
    best_adapter: Adapter
    before: float | None


class _Record(msgspec.Struct, forbid_unknown_fields=True):
    """What the header says."""

    step: Count
    losses: list[float]
    best_step: Count
    best_loss: float | None
    waited: Count
    before: float | None
    run: dict[str, str]


class Checkpoints:
    """Keeps a run in a folder.

    Parameters
    ----------
    folder
        Made where it is missing.
    run
        What the run is, by names that people read: a checkpoint of another is not continued.
    """

    def __init__(self, folder: Path, run: Mapping[str, str]) -> None:
        self.path = folder / FILE
        self._run = dict(run)

    def begin(self, nbytes: int) -> None:
        """Make the folder, before the work. Raises `SaveError` where it holds a run or has no room."""
        if self.path.exists():
            raise SaveError(
                "the folder holds a run", path=self.path, remedy="Resume it, or choose another folder"
            )
        try:
            self.path.parent.mkdir(exist_ok=True)
        except OSError as error:
            raise save_error(self.path.parent, error) from error
        require_space(self.path, 2 * nbytes)

    def save(self, state: RunState) -> None:
        """Put a state in the place of the one before. Raises `SaveError`, and leaves that one."""
        tensors = {
            **_named("adapter", state.adapter),
            **_named("best", state.best_adapter),
            **{f"optimiser/{name}": array for name, array in state.optimiser.items()},
        }
        record = _Record(
            step=state.step,
            losses=list(state.losses),
            best_step=state.best.step,
            best_loss=state.best.loss if math.isfinite(state.best.loss) else None,
            waited=state.best.waited,
            before=state.before,
            run=self._run,
        )
        pending = {name: PendingTensor.of(array) for name, array in tensors.items()}
        metadata = {KEY: msgspec.json.encode(record).decode()}

        def write(path: Path) -> None:
            for _ in write_safetensors(path, pending, metadata=metadata):
                pass

        write_atomically(self.path, write)

    def load(self, adapter: Adapter) -> RunState:
        """Return the state that was kept.

        Parameters
        ----------
        adapter
            As the run began: its modules and shapes are those of what is read.

        Raises
        ------
        FormatError
            There is none, or it is damaged.
        MismatchError
            It is of another run, with what differs.
        """
        if not self.path.exists():
            raise FormatError("there is no run to resume", path=self.path, remedy="Check the folder")
        text = read_safetensors_metadata(self.path).get(KEY, "")
        try:
            record = msgspec.json.decode(text, type=_Record)
        except (msgspec.DecodeError, msgspec.ValidationError) as error:
            raise FormatError(
                f"this is no run of training: {error}", path=self.path, remedy=DAMAGED
            ) from error
        self._check_run(record.run)
        tensors = read_safetensors(self.path)
        loss = float("inf") if record.best_loss is None else record.best_loss
        return RunState(
            step=record.step,
            adapter=self._adapter("adapter", adapter, tensors),
            optimiser={
                name.partition("/")[2]: array
                for name, array in tensors.items()
                if name.startswith("optimiser/")
            },
            losses=tuple(record.losses),
            best=Best(loss, record.best_step, record.waited),
            best_adapter=self._adapter("best", adapter, tensors),
            before=record.before,
        )

    def _check_run(self, there: Mapping[str, str]) -> None:
        names = [*self._run, *(name for name in there if name not in self._run)]
        differing = [name for name in names if there.get(name) != self._run.get(name)]
        if differing:
            name = differing[0]
            its, own = there.get(name, "none"), self._run.get(name, "none")
            others = f", and {len(differing) - 1} more differ" if len(differing) > 1 else ""
            raise MismatchError(
                f"the run there has {its}, this one {own}{others}",
                path=self.path,
                where=name,
                remedy="Give it the same data and options, or begin a new run in another folder",
            )

    def _adapter(self, part: str, adapter: Adapter, tensors: Mapping[str, FloatArray]) -> Adapter:
        wanted = _named(part, adapter)
        for name, array in wanted.items():
            if name not in tensors or tensors[name].shape != array.shape:
                raise FormatError("a factor is missing", path=self.path, where=name, remedy=DAMAGED)
        return adapter.with_factors(
            {
                module: replace(pair, a=tensors[f"{part}/{module}.a"], b=tensors[f"{part}/{module}.b"])
                for module, pair in adapter.factors.items()
            }
        )


def _named(part: str, adapter: Adapter) -> dict[str, FloatArray]:
    return {
        f"{part}/{module}.{half}": array
        for module, pair in adapter.factors.items()
        for half, array in (("a", pair.a), ("b", pair.b))
    }
