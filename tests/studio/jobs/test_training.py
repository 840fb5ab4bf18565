"""Runs on a tiny llama: what they learn, tell, keep and refuse."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import (
    BlendChannel,
    BlendState,
    Example,
    ExportRequest,
    MetadataValue,
    Optimisation,
    Progress,
    Trained,
    Trainer,
    TrainingProgress,
    TrainingRequest,
    Work,
)
from studio.engine import memory
from studio.engine.local import LocalEngine
from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.errors import (
    EngineError,
    FormatError,
    MismatchError,
    PluginError,
    SaveError,
    StudioError,
    UnsupportedError,
)
from studio.formats.gguf_file import GgufFile
from studio.jobs.exporting import STACKED, export
from studio.jobs.opening import read_adapter
from studio.jobs.training import TrainingPlan, start_training, train_adapter
from studio.learning.momentum import Momentum, MomentumOptions
from studio.learning.options import LoraOptions
from studio.lora.adapter import Adapter
from studio.registry import load_plugins

VOCABULARY = 40

MakeRequest = Callable[..., TrainingRequest]
MakePlan = Callable[..., TrainingPlan]


def sequences(seed: int, count: int, length: int = 12) -> tuple[Example, ...]:
    """Random walks whose next token follows from the last: something to learn."""
    random = np.random.default_rng(seed)
    following = np.random.default_rng(99).permutation(VOCABULARY)
    found = []
    for _ in range(count):
        tokens = [int(random.integers(VOCABULARY))]
        while len(tokens) < length:
            tokens.append(int(following[tokens[-1]]))
        found.append(Example.of(tokens))
    return tuple(found)


@pytest.fixture
def make_request(tiny_llama: GgufFile, local_engine: LocalEngine) -> MakeRequest:
    local_engine.open(tiny_llama)

    def make(count: int = 6, **others: Any) -> TrainingRequest:
        return TrainingRequest(tiny_llama, local_engine, sequences(0, count), **others)

    return make


def run(
    request: TrainingRequest, options: LoraOptions, stop_after: int | None = None
) -> tuple[list[TrainingProgress], Trained | None]:
    """Run to the end, or close the run after a step."""
    told: list[TrainingProgress] = []
    work = train_adapter(request, options)
    try:
        while stop_after is None or len(told) < stop_after:
            progress = next(work)
            if isinstance(progress, TrainingProgress):
                told.append(progress)
    except StopIteration as end:
        return told, end.value
    work.close()
    return told, None


def finished(request: TrainingRequest, options: LoraOptions) -> tuple[list[TrainingProgress], Trained]:
    told, trained = run(request, options)
    assert trained is not None
    return told, trained


FAST = LoraOptions(rank=4, steps=30, learning_rate=0.03, batch=2)


def test_it_learns_and_tells_how_far_it_is(make_request: MakeRequest) -> None:
    request = make_request(validation=sequences(1, 3))
    told, trained = finished(request, replace(FAST, validate_every=10))
    assert [(one.done, one.total) for one in told] == [(step, 30) for step in range(1, 31)]
    assert told[-1].loss < 0.5 * told[0].loss
    assert [one.done for one in told if one.validation is not None] == [10, 20, 30]
    assert all(one.tokens_per_second > 0 and one.gradient_norm > 0 for one in told)
    assert told[-1].seconds_left == 0
    assert told[0].rate < told[1].rate < told[2].rate == max(one.rate for one in told) == 0.03
    assert trained.steps == 30
    assert trained.before is not None and trained.validation is not None
    assert trained.validation < 0.6 * trained.before
    assert isinstance(trained.adapter, Adapter) and trained.adapter.trainable
    assert trained.adapter.n_weights == 14


def test_each_step_is_another_version_of_the_adapter(make_request: MakeRequest) -> None:
    told, _ = finished(make_request(), replace(FAST, steps=5))
    adapters = [one.adapter for one in told]
    assert len({adapter.version for adapter in adapters if adapter}) == 5
    assert told[-1].best is told[-1].adapter


def test_batches_and_accumulated_batches_learn_the_same(make_request: MakeRequest) -> None:
    together, _ = finished(make_request(), replace(FAST, batch=4, steps=6))
    apart, _ = finished(make_request(), replace(FAST, batch=1, accumulation=4, steps=6))
    assert [one.loss for one in together] == pytest.approx([one.loss for one in apart], rel=1e-4)


def test_epochs_say_how_many_steps_there_are(make_request: MakeRequest) -> None:
    told, _ = finished(make_request(count=5), replace(FAST, steps=0, epochs=2.0))
    assert len(told) == 5


def test_the_best_is_kept_and_patience_ends_the_run(make_request: MakeRequest) -> None:
    others = tuple(Example.of(list(example.tokens[::-1])) for example in sequences(5, 3))
    options = replace(FAST, validate_every=1, patience=3, schedule="constant")
    told, trained = finished(make_request(validation=others), options)
    losses = [trained.before, *(one.validation for one in told)]
    assert trained.validation == min(loss for loss in losses if loss is not None)
    assert trained.best_step == losses.index(trained.validation)
    assert trained.steps == trained.best_step + 3 < 30
    assert told[-1].best is trained.adapter


def test_until_it_is_measured_the_best_is_what_there_is(make_request: MakeRequest) -> None:
    told, _ = run(make_request(validation=sequences(1, 3)), replace(FAST, validate_every=10), stop_after=4)
    assert told[-1].best is told[-1].adapter and told[-1].best_step == 4


def test_dropout_targets_and_rank_stabilisation_reach_the_run(make_request: MakeRequest) -> None:
    plain, _ = finished(make_request(), replace(FAST, steps=4))
    dropped, _ = finished(make_request(), replace(FAST, steps=4, dropout=0.5))
    assert dropped[0].loss == plain[0].loss  # B is zero, so at first there is nothing to leave out
    assert dropped[3].loss != plain[3].loss
    _, trained = finished(
        make_request(), replace(FAST, steps=1, targets="attn_q, ffn_*", rank_stabilised=True, alpha=4.0)
    )
    assert isinstance(trained.adapter, Adapter) and trained.adapter.n_weights == 8
    assert trained.adapter.factors["blk.0.attn_q.weight"].scaling == 2.0


def test_another_adapter_learns_on_beside_others_that_stay(
    make_request: MakeRequest, tiny_adapter: Adapter
) -> None:
    state = BlendState((BlendChannel("tiny", tiny_adapter.version, 0.5),))
    request = make_request(beside={"tiny": tiny_adapter}, state=state, name="tiny", start=tiny_adapter)
    before = tiny_adapter.factors["blk.0.attn_q.weight"].a.copy()
    _, trained = finished(request, replace(FAST, steps=3, rank=8))
    assert isinstance(trained.adapter, Adapter)
    assert (trained.adapter.modules, trained.adapter.ranks) == (tiny_adapter.modules, (2,))
    assert not np.array_equal(trained.adapter.factors["blk.0.attn_q.weight"].a, before)
    np.testing.assert_array_equal(tiny_adapter.factors["blk.0.attn_q.weight"].a, before)


def test_an_adapter_that_learns_on_has_the_alpha_that_is_asked_for_and_the_same_delta(
    make_request: MakeRequest, tiny_adapter: Adapter
) -> None:
    tiny_adapter.alpha = 0.0625
    module = "blk.0.attn_q.weight"
    still = replace(FAST, steps=1, learning_rate=1e-9, alpha=16.0)
    _, trained = finished(make_request(start=tiny_adapter), still)
    assert isinstance(trained.adapter, Adapter) and trained.adapter.alpha == 16.0
    inputs = np.random.default_rng(2).normal(size=(3, 16)).astype(np.float32)
    found, before = trained.adapter.delta(module, inputs), tiny_adapter.delta(module, inputs)
    assert found is not None and before is not None
    np.testing.assert_allclose(found, before, rtol=1e-5, atol=1e-7)


def test_the_optimiser_is_whose_the_request_names(make_request: MakeRequest) -> None:
    options = replace(FAST, steps=4, learning_rate=0.5)
    adamw, _ = finished(make_request(), options)
    momentum, _ = finished(make_request(optimisation=Optimisation(Momentum(), MomentumOptions())), options)
    assert momentum[0].loss == adamw[0].loss and momentum[3].loss != adamw[3].loss


def test_a_run_that_is_closed_is_resumed_as_if_nothing_had_been(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    options = replace(FAST, steps=12, dropout=0.1, validate_every=4, checkpoint_every=5)
    validation = sequences(1, 3)
    unbroken, whole = finished(make_request(validation=validation), options)
    begun, _ = run(make_request(validation=validation, checkpoints=tmp_path), options, stop_after=7)
    resumed, rest = run(make_request(validation=validation, checkpoints=tmp_path, resume=True), options)
    assert rest is not None
    together = [(one.done, one.loss, one.validation, one.gradient_norm) for one in [*begun, *resumed]]
    assert together == [(one.done, one.loss, one.validation, one.gradient_norm) for one in unbroken]
    assert (rest.loss, rest.validation, rest.before, rest.best_step) == (
        whole.loss,
        whole.validation,
        whole.before,
        whole.best_step,
    )
    again, same = run(make_request(validation=validation, checkpoints=tmp_path, resume=True), options)
    assert not again and same is not None and same.validation == whole.validation


KILLED = """
import sys
import time
from pathlib import Path

import numpy as np

from studio.contracts import Example, TrainingProgress, TrainingRequest
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio.jobs.training import TrainingPlan, start_training, train_adapter
from studio.learning.options import LoraOptions

model, checkpoints, resume = sys.argv[1:]
base = GgufFile.open(Path(model))
engine = LocalEngine(choose_backend("numpy"))
engine.open(base)
random = np.random.default_rng(0)
examples = [Example.of([int(token) for token in random.integers(40, size=12)]) for _ in range(7)]
folder = Path(checkpoints) if checkpoints else None
request = TrainingRequest(
    base, engine, examples[:5], examples[5:], checkpoints=folder, resume=resume == "resume"
)
options = LoraOptions(
    rank=4, steps=40, learning_rate=0.03, dropout=0.1, validate_every=5, checkpoint_every=3
)
for progress in train_adapter(request, options):
    if isinstance(progress, TrainingProgress):
        print(progress.done, progress.loss.hex(), progress.validation, flush=True)
        if resume == "wait" and progress.done == 8:
            time.sleep(600)
"""


def start(model: Path, checkpoints: str, resume: str = "") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", KILLED, str(model), checkpoints, resume]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.skipif(sys.platform == "win32", reason="it has no such signal")
def test_a_run_that_is_killed_is_resumed_with_the_very_same_numbers(
    tiny_llama_path: Path, tmp_path: Path
) -> None:
    with start(tiny_llama_path, "") as process:
        assert process.stdout is not None
        unbroken = process.stdout.read().splitlines()
    assert len(unbroken) == 40
    with start(tiny_llama_path, str(tmp_path / "run"), "wait") as process:
        assert process.stdout is not None
        begun = [process.stdout.readline().strip() for _ in range(8)]
        os.kill(process.pid, signal.SIGKILL)
    assert process.returncode == -signal.SIGKILL
    with start(tiny_llama_path, str(tmp_path / "run"), "resume") as process:
        assert process.stdout is not None
        resumed = process.stdout.read().splitlines()
    assert process.returncode == 0
    assert begun == unbroken[:8]
    assert resumed == unbroken[6:]  # the last checkpoint was of step 6


@pytest.mark.parametrize(
    ("change", "says"),
    [({"rank": 2}, "rank: the run there has 4, this one 2"), ({"seed": 1}, "seed: the run there has 0")],
)
def test_a_checkpoint_of_other_options_is_refused_by_name(
    make_request: MakeRequest, tmp_path: Path, change: dict[str, Any], says: str
) -> None:
    run(make_request(checkpoints=tmp_path), FAST, stop_after=1)
    with pytest.raises(MismatchError, match=says):
        run(make_request(checkpoints=tmp_path, resume=True), replace(FAST, **change))
    with pytest.raises(MismatchError, match="data: the run there has 6 examples"):
        run(make_request(count=5, checkpoints=tmp_path, resume=True), FAST)


def test_what_changes_no_number_may_be_another(make_request: MakeRequest, tmp_path: Path) -> None:
    run(make_request(checkpoints=tmp_path), FAST, stop_after=1)
    told, _ = run(
        make_request(checkpoints=tmp_path, resume=True), replace(FAST, checkpoint_every=9), stop_after=1
    )
    assert told[0].done == 2


@pytest.mark.skipif(sys.platform == "win32", reason="nothing holds a folder there")
@pytest.mark.parametrize("resume", [False, True])
def test_a_folder_takes_one_run_at_a_time(make_request: MakeRequest, tmp_path: Path, resume: bool) -> None:
    options = replace(FAST, checkpoint_every=1 if resume else 9)
    first = train_adapter(make_request(checkpoints=tmp_path), options)
    next(first)
    with pytest.raises(SaveError, match="another run writes to this folder now"):
        run(make_request(checkpoints=tmp_path, resume=resume), FAST)
    first.close()
    told, _ = run(make_request(checkpoints=tmp_path, resume=True), FAST, stop_after=1)
    assert told[0].done == 2


def test_there_must_be_a_run_to_resume(make_request: MakeRequest, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match="no run to resume"):
        run(make_request(checkpoints=tmp_path, resume=True), FAST)


@pytest.mark.filterwarnings("ignore:overflow:RuntimeWarning", "ignore:invalid value:RuntimeWarning")
def test_a_run_that_diverges_ends_with_an_error_and_its_last_good_adapter(make_request: MakeRequest) -> None:
    wild = replace(FAST, learning_rate=10.0, warm_up=0.0, schedule="constant", b_ratio=1000.0, clipping=0.0)
    last = None
    with pytest.raises(StudioError) as failure:
        for progress in train_adapter(make_request(), replace(wild, alpha=60000.0, steps=200)):
            last = progress
    assert isinstance(failure.value, EngineError | FormatError)
    assert failure.value.remedy == "Lower the learning rate"
    assert isinstance(last, TrainingProgress) and isinstance(last.adapter, Adapter)
    assert all(np.isfinite(pair.b).all() for pair in last.adapter.factors.values())


def test_a_run_that_cannot_fit_is_not_begun(
    make_request: MakeRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "meminfo").write_text("MemAvailable: 100 kB\n", encoding="ascii")
    monkeypatch.setattr(memory, "MEMORY_INFORMATION", tmp_path / "meminfo")
    with pytest.raises(EngineError, match="the run takes about .* GB, and 0.0 GB are free"):
        run(make_request(), replace(FAST, rank=256))


def test_a_run_needs_examples(make_request: MakeRequest) -> None:
    with pytest.raises(StudioError, match="nothing to learn"):
        run(make_request(count=0), FAST)


def test_what_is_exported_and_loaded_answers_as_the_trained_adapter(
    make_request: MakeRequest, tmp_path: Path
) -> None:
    request = make_request(validation=sequences(1, 3))
    _, trained = finished(request, FAST)
    alone = BlendState((BlendChannel("new", trained.adapter.version, 1.0),))
    plugins = load_plugins(safe_mode=True)
    exporter = next(one for one in plugins.exporters if one.name == STACKED)
    target = tmp_path / "new.gguf"
    for _ in export(
        ExportRequest(request.base, {"new": trained.adapter}, alone), exporter, target, exporter.Options()
    ):
        pass
    loaded = read_adapter(target, request.base, plugins).adapter
    request.engine.attach({"loaded": loaded})
    (loss,) = request.engine.losses(
        request.validation, [BlendState((BlendChannel("loaded", loaded.version, 1.0),))]
    )
    assert loss.mean == pytest.approx(trained.validation, rel=1e-6)


class Careless:
    """A stranger's trainer that breaks its contract."""

    name = "careless"
    Options = LoraOptions

    def memory(self, request: TrainingRequest, options: LoraOptions) -> int:
        return 0

    def train(self, request: TrainingRequest, options: LoraOptions) -> Work:
        yield Progress(0, options.steps)
        if options.steps == 1:
            raise ZeroDivisionError("too careless")
        return "an adapter"


@pytest.fixture
def plan(tmp_path: Path) -> MakePlan:
    data = tmp_path / "data.txt"
    data.write_text("abcdefgh" * 8, encoding="utf-8")

    def make(trainer: Trainer, options: LoraOptions, **others: Any) -> TrainingPlan:
        return TrainingPlan(data, trainer, options, max_length=8, **others)

    return make


@pytest.fixture(scope="session")
def letters() -> Tokenizer:
    """A tokenizer of letters alone, as many as the tiny llama has tokens."""
    metadata: dict[str, MetadataValue] = {
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": ["<unk>", *(chr(ord("a") + number) for number in range(VOCABULARY - 1))],
        "tokenizer.ggml.token_type": np.array([2, *[1] * (VOCABULARY - 1)], np.int32),
        "tokenizer.ggml.scores": np.zeros(VOCABULARY, np.float32),
        "tokenizer.ggml.add_space_prefix": False,
        "tokenizer.ggml.add_bos_token": False,
    }
    return tokenizer_from_metadata(metadata)


def started(
    plan: TrainingPlan, base: GgufFile, tokenizer: Tokenizer, engine: LocalEngine
) -> tuple[list[Progress], Trained]:
    engine.open(base)
    told: list[Progress] = []
    work = start_training(plan, base, tokenizer, engine)
    while True:
        try:
            told.append(next(work))
        except StopIteration as end:
            return told, end.value


def test_a_plan_is_read_and_trained(
    plan: MakePlan, tiny_llama: GgufFile, letters: Tokenizer, local_engine: LocalEngine
) -> None:
    (trainer,) = [one for one in load_plugins(safe_mode=True).trainers if one.name == "LoRA"]
    alphabet = plan(trainer, replace(FAST, steps=3), held_out=0.2, name="alphabet")
    told, trained = started(alphabet, tiny_llama, letters, local_engine)
    assert told[1].message == "data.txt: 7 examples, 56 tokens, 49 of them predicted"
    assert trained.adapter.name == "alphabet" and trained.validation is not None


@pytest.mark.parametrize(
    ("steps", "says"), [(1, "ZeroDivisionError: too careless"), (2, "it returned str, not Trained")]
)
def test_a_trainer_that_breaks_down_is_named(
    plan: MakePlan,
    tiny_llama: GgufFile,
    letters: Tokenizer,
    local_engine: LocalEngine,
    steps: int,
    says: str,
) -> None:
    with pytest.raises(PluginError, match=f"trainer careless: .*{says}"):
        started(plan(Careless(), replace(FAST, steps=steps)), tiny_llama, letters, local_engine)


def test_what_shows_no_factors_does_not_learn_on(
    plan: MakePlan,
    tiny_llama: GgufFile,
    letters: Tokenizer,
    local_engine: LocalEngine,
    shift: Any,
) -> None:
    with pytest.raises(UnsupportedError, match="shift shows no factors"):
        started(plan(Careless(), FAST, start=shift), tiny_llama, letters, local_engine)
