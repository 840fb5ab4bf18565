"""What is told of a run before it starts is what its trainer then gets."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.contracts import Work
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.errors import FormatError
from studio.formats.gguf_file import GgufFile
from studio.jobs import training_outlook
from studio.jobs.training import TrainingPlan
from studio.jobs.training_outlook import MemoryEstimate, estimate_memory, read_training_data
from studio.registry import load_plugins


@pytest.fixture(scope="module")
def base(smollm2_path: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(smollm2_path)
    yield base
    base.close()


@pytest.fixture(scope="module")
def engine(base: GgufFile) -> Iterator[LocalEngine]:
    engine = LocalEngine(choose_backend("numpy"))
    engine.open(base)
    yield engine
    engine.close()


@pytest.fixture(scope="module")
def tokenizer(base: GgufFile) -> Tokenizer:
    return tokenizer_from_metadata(base.metadata, base.path)


@pytest.fixture
def plan(tmp_path: Path) -> TrainingPlan:
    data = tmp_path / "pairs.jsonl"
    data.write_text('{"prompt": "Who sails?", "completion": " The crew of the brig."}\n' * 10)
    trainer = next(one for one in load_plugins(safe_mode=True).trainers if one.name == "LoRA")
    return TrainingPlan(data, trainer, trainer.Options(), held_out=0.2)


def finished(work: Work) -> Any:
    while True:
        try:
            next(work)
        except StopIteration as end:
            return end.value


def test_examples_are_shown_as_the_model_sees_them(
    plan: TrainingPlan, base: GgufFile, tokenizer: Tokenizer, engine: LocalEngine
) -> None:
    data = finished(read_training_data(plan, base, tokenizer, engine))
    assert len(data.request.examples) == len(data.seen) == 8 and len(data.request.validation) == 2
    assert "".join(text for text, learnt in data.seen[0] if not learnt) == "Who sails?"
    assert "".join(text for text, learnt in data.seen[0] if learnt).startswith(" The crew of the brig.")
    assert data.summary.startswith("8 examples, ") and data.summary.endswith("; 2 to measure on")


def test_long_examples_are_shown_by_their_beginning(
    plan: TrainingPlan,
    base: GgufFile,
    tokenizer: Tokenizer,
    engine: LocalEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(training_outlook, "SHOWN_TOKENS", 3)
    data = finished(read_training_data(plan, base, tokenizer, engine))
    assert len(data.seen[0]) == 4 and data.seen[0][-1] == (" …", False)
    assert len(data.request.examples[0].tokens) > 4


def test_memory_grows_with_the_rank(
    plan: TrainingPlan, base: GgufFile, tokenizer: Tokenizer, engine: LocalEngine
) -> None:
    data = finished(read_training_data(plan, base, tokenizer, engine))
    ranks = [
        finished(
            estimate_memory(
                TrainingPlan(plan.data, plan.trainer, plan.trainer.Options(rank=rank)), data, engine
            )
        )
        for rank in (4, 64)
    ]
    assert 0 < ranks[0].needed < ranks[1].needed
    assert MemoryEstimate(2, 1).fits is False and MemoryEstimate(2, None).fits and MemoryEstimate(2, 2).fits


def test_damaged_data_is_refused(
    plan: TrainingPlan, base: GgufFile, tokenizer: Tokenizer, engine: LocalEngine
) -> None:
    plan.data.write_text('{"prompt": "Who sails?"}\n')
    with pytest.raises(FormatError, match="line 1"):
        finished(read_training_data(plan, base, tokenizer, engine))
