"""Runs on disk."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import numpy as np
import pytest

from studio.errors import FormatError, MismatchError, SaveError
from studio.formats import atomic
from studio.formats.safetensors_writer import PendingTensor, write_safetensors
from studio.learning.checkpoint import FILE, KEY, Checkpoints, RunState
from studio.learning.stopping import Best
from studio.lora.adapter import Adapter, LoraFactors

MODULE = "blk.0.attn_q.weight"
RUN = {"data": "3 examples", "rank": "2"}


def adapter(seed: int) -> Adapter:
    random = np.random.default_rng(seed)
    a, b = random.normal(size=(2, 6)), random.normal(size=(4, 2))
    return Adapter("new", {MODULE: LoraFactors(a.astype(np.float32), b.astype(np.float32), 4.0)})


def state(step: int = 7) -> RunState:
    means = {"mean/w": np.random.default_rng(3).normal(size=(2, 6)).astype(np.float32)}
    return RunState(step, adapter(1), means, (0.1, 1 / 3), Best(0.30000000000000004, 5, 2), adapter(2), 4.0)


def test_what_is_kept_comes_back_to_the_last_digit(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path / "run", RUN)
    checkpoints.begin(1000)
    checkpoints.save(state(3))
    checkpoints.save(state())
    read = Checkpoints(tmp_path / "run", RUN).load(adapter(9))
    assert (read.step, read.losses, read.best, read.before) == (7, (0.1, 1 / 3), state().best, 4.0)
    np.testing.assert_array_equal(read.adapter.factors[MODULE].a, adapter(1).factors[MODULE].a)
    np.testing.assert_array_equal(read.best_adapter.factors[MODULE].b, adapter(2).factors[MODULE].b)
    np.testing.assert_array_equal(read.optimiser["mean/w"], state().optimiser["mean/w"])
    assert [file.name for file in (tmp_path / "run").iterdir()] == [FILE]


def test_a_run_without_validation_has_no_best_loss(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save(RunState(1, adapter(1), {}, (2.0,), Best(step=1), adapter(1), None))
    assert checkpoints.load(adapter(1)).best == Best(step=1)


@pytest.mark.parametrize(
    ("run", "says"),
    [
        ({**RUN, "rank": "4"}, "rank: the run there has 2, this one 4. Give it the same data and options"),
        ({**RUN, "data": "4 examples"}, "data: the run there has 3 examples, this one 4 examples"),
        ({"rank": "2"}, "data: the run there has 3 examples, this one none"),
        ({**RUN, "data": "x", "rank": "1", "seed": "1"}, "this one x, and 2 more differ"),
    ],
)
def test_another_run_is_not_continued(tmp_path: Path, run: dict[str, str], says: str) -> None:
    Checkpoints(tmp_path, RUN).save(state())
    with pytest.raises(MismatchError) as refusal:
        Checkpoints(tmp_path, run).load(adapter(1))
    assert says in str(refusal.value)


def test_a_folder_with_a_run_is_not_begun_anew(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save(state())
    with pytest.raises(SaveError, match="holds a run. Resume it"):
        checkpoints.begin(1000)


def test_a_disk_without_room_is_told_before_the_work(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="the disk has"):
        Checkpoints(tmp_path, RUN).begin(1 << 60)


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    with pytest.raises(SaveError, match="run"):
        Checkpoints(tmp_path / "missing" / "run", RUN).begin(1000)


def test_a_checkpoint_that_fails_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = Checkpoints(tmp_path, RUN)
    checkpoints.save(state(3))

    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(atomic, "flush_to_disk", full)
    with pytest.raises(SaveError, match="No space left"):
        checkpoints.save(state(4))
    assert checkpoints.load(adapter(1)).step == 3
    assert [file.name for file in tmp_path.iterdir()] == [FILE]


def damaged(path: Path, metadata: dict[str, str]) -> None:
    for _ in write_safetensors(path, {"x": PendingTensor.of(np.ones(3, np.float32))}, metadata=metadata):
        pass


@pytest.mark.parametrize(
    ("metadata", "says"),
    [
        ({}, "no run of training"),
        ({KEY: "{"}, "no run of training"),
        ({KEY: json.dumps({"step": "seven"})}, "no run of training"),
        (
            {
                KEY: json.dumps(
                    {
                        "step": 1,
                        "losses": [],
                        "best_step": 0,
                        "best_loss": None,
                        "waited": 0,
                        "before": None,
                        "run": RUN,
                    }
                )
            },
            "a factor is missing",
        ),
    ],
)
def test_a_damaged_checkpoint_is_refused(tmp_path: Path, metadata: dict[str, str], says: str) -> None:
    damaged(tmp_path / FILE, metadata)
    with pytest.raises(FormatError, match=says):
        Checkpoints(tmp_path, RUN).load(adapter(1))


def test_a_folder_without_a_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no run to resume"):
        Checkpoints(tmp_path, RUN).load(adapter(1))
