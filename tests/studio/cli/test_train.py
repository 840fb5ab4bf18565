"""`lora-studio train`: once on SmolLM2, else on a tiny llama whose tokens are bytes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.cli.training_progress import describe_step, duration, perplexity
from studio.contracts import BlendChannel, BlendState, MetadataValue, TrainingProgress
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.tokenizer import Tokenizer
from studio.errors import SaveError
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf
from studio.learning.data import read_examples
from studio.learning.validation import hold_out
from studio.loading import load_adapter

Cli = Callable[..., Any]

TEXT = "The quick brown fox jumps over the lazy dog, and the dog does not mind it at all. " * 6

QUICK = ("--steps", "3", "--max-length", "24", "--lr", "0.003", "--targets", "attn_*", "--rank", "2")


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of one layer with random weights, whose tokens are bytes."""
    width, heads, feed_forward = 16, 2, 24
    special = ["<unk>", "<bos>", "<eos>"]
    tokens = [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"]
    metadata: dict[str, MetadataValue] = {
        "general.architecture": "llama",
        "general.name": "tiny",
        "llama.context_length": 64,
        "llama.embedding_length": width,
        "llama.block_count": 1,
        "llama.feed_forward_length": feed_forward,
        "llama.attention.head_count": heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.vocab_size": len(tokens),
        "tokenizer.ggml.model": "llama",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": np.array([2, 3, 3, *[6] * 256, 1], np.int32),
        "tokenizer.ggml.scores": np.zeros(len(tokens), np.float32),
    }
    shapes = {
        "token_embd.weight": (len(tokens), width),
        "output_norm.weight": (width,),
        **{f"blk.0.{name}_norm.weight": (width,) for name in ("attn", "ffn")},
        **{f"blk.0.attn_{name}.weight": (width, width) for name in ("q", "k", "v", "output")},
        **{f"blk.0.ffn_{name}.weight": (feed_forward, width) for name in ("gate", "up")},
        "blk.0.ffn_down.weight": (width, feed_forward),
    }
    random = np.random.default_rng(0)
    path = tmp_path_factory.mktemp("models") / "tiny.gguf"
    write_gguf(path, metadata, {name: random.normal(size=shape) for name, shape in shapes.items()})
    return path


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT, encoding="utf-8")
    return path


def test_it_trains_and_writes_what_loads_with_the_loss_that_was_told(
    cli: Cli, smollm2_path: Path, smollm2_tokenizer: Tokenizer, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fox.gguf"
    done = cli("train", smollm2_path, "--data", text, "-o", out, *QUICK, "--held-out", "0.2", "--json")
    result = done.json
    assert (result["path"], result["steps"], result["complete"]) == (str(out), 3, True)
    assert result["validation_loss"] < result["validation_loss_before"]
    assert "examples" in done.err and "step 3/3, loss" in done.err and "validation perplexity" in done.err
    (report,) = cli("inspect", out, "--base", smollm2_path, "--json").json["files"]
    assert (report["matched"], report["covered"], report["ranks"]) == (120, 120, [2])
    assert report["name"] == "fox"

    examples = hold_out(read_examples(text, smollm2_tokenizer, max_length=24), 0.2, 0)[1]
    base, engine = GgufFile.open(smollm2_path), LocalEngine(choose_backend("numpy"))
    engine.open(base)
    loaded = load_adapter(out, base)
    engine.attach({"fox": loaded})
    (loss,) = engine.losses(examples, [BlendState((BlendChannel("fox", loaded.version, 1.0),))])
    assert loss.mean == pytest.approx(result["validation_loss"], rel=1e-6)
    engine.close()
    base.close()


def test_the_name_says_the_format(cli: Cli, tiny_base: Path, text: Path, tmp_path: Path) -> None:
    out = tmp_path / "fox"
    done = cli("train", tiny_base, "--data", text, "-o", out, *QUICK[2:], "--steps", "1")
    assert done.code == 0, done.err
    assert "PEFT directory" in done.out and "finished after step 1, loss" in done.out
    assert json.loads((out / "adapter_config.json").read_text(encoding="utf-8"))["r"] == 2


def test_a_run_is_kept_and_resumed(cli: Cli, tiny_base: Path, text: Path, tmp_path: Path) -> None:
    out, run = tmp_path / "fox.gguf", tmp_path / "run"
    command = ("train", tiny_base, "--data", text, "-o", out, *QUICK, "--json")
    begun = cli(*command, "--checkpoint", run).json
    again = cli(*command, "--checkpoint", run)
    assert again.code == 1 and "holds a run" in again.err
    assert cli(*command, "--resume", run).json["loss"] == begun["loss"]
    other = cli(*command, "--resume", run, "--seed", "5")
    assert other.code == 1 and "seed: the run there has 0, this one 5" in other.err


def test_it_shows_samples(cli: Cli, tiny_base: Path, text: Path, tmp_path: Path) -> None:
    done = cli(
        *("train", tiny_base, "--data", text, "-o", tmp_path / "fox.gguf", *QUICK),
        *("--sample", "The quick brown"),
        *("--trainer-option", "sample_every=3", "--trainer-option", "sample_tokens=4"),
    )
    assert done.code == 0, done.err
    step, sample = done.err.splitlines()[-2:]
    assert step.startswith("step 3/3") and sample.startswith("  '") and len(sample) > 5


def test_a_preview_trains_nothing(cli: Cli, tiny_base: Path, tmp_path: Path) -> None:
    data = tmp_path / "pairs.jsonl"
    data.write_text(json.dumps({"prompt": "Two and two is", "completion": " four"}) + "\n", encoding="utf-8")
    done = cli("train", tiny_base, "--data", data, "--preview", "1")
    assert done.code == 0, done.err
    assert re.search('read .*Two and two is"\n *predicted .* four', done.out), done.out
    assert done.out.endswith("1 example, 22 tokens, 6 of them predicted\n")
    assert [file.name for file in tmp_path.iterdir()] == ["pairs.jsonl"]


def test_a_preview_cuts_at_the_context_as_the_run_does(
    cli: Cli, tiny_base: Path, text: Path, tmp_path: Path
) -> None:
    long = ("--data", text, "--max-length", "500")
    shown = cli("train", tiny_base, *long, "--preview", "1")
    trained = cli("train", tiny_base, *long, "-o", tmp_path / "fox.gguf", "--steps", "1")
    said = shown.out.splitlines()[-1]
    assert shown.out.startswith("example 1: 64 tokens") and f"text.txt: {said}" in trained.err


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["--steps", "3", "--epochs", "1"], 2, "give one of them"),
        (["--checkpoint", "x", "--resume", "x"], 2, "a run is begun or resumed"),
        (["--trainer", "magic"], 2, "there is no 'magic'; there is: LoRA"),
        (["--optimiser", "magic"], 2, "there is no 'magic'; there is: adamw, sgd"),
        (["--optimiser-option", "momentum=1"], 1, "adamw has no option 'momentum'"),
        (["--optimiser-option", "beta_1=2"], 1, "beta_1: 2.0 does not fit"),
        (["--rank", "8", "--trainer-option", "rank=4"], 2, "rank is given by its own flag as well"),
        (["--steps", "0"], 2, "greater than or equal to 1"),
        (["--alpha", "0"], 1, "alpha: 0.0 does not fit this option. Give a number from 0.001"),
        (["--validation", "x", "--held-out", "0.1"], 2, "give one of them"),
        (["--trainer-option", "patience=3"], 1, "patience: nothing is measured"),
        (["--rank", "300"], 1, "rank: 300 does not fit this option. Give a number from 1 to 256"),
        (["--trainer-option", "magic=1"], 1, "LoRA has no option 'magic'"),
        (["--schedule", "zigzag"], 1, "Choose one of cosine, linear, constant"),
        (["--targets", "q_proj"], 1, "has no q_proj. Choose among"),
        (["--preview", "1"], 2, "exactly one of --output, --preview"),
        (["--data", "missing.txt"], 1, "missing.txt"),
        (["--option", "magic=1"], 1, "has no option 'magic'"),
    ],
)
def test_what_makes_no_sense_is_refused(
    cli: Cli, tiny_base: Path, text: Path, tmp_path: Path, arguments: list[str], code: int, says: str
) -> None:
    out = tmp_path / "fox.gguf"
    done = cli("train", tiny_base, "--data", text, "-o", out, *arguments)
    assert done.code == code
    assert says in " ".join(done.err.replace("│", " ").split())
    assert not out.exists()


def test_what_cannot_be_written_is_refused_before_the_run(
    cli: Cli, tiny_base: Path, text: Path, tmp_path: Path
) -> None:
    data = text.rename(tmp_path / "data.gguf")
    for target in (tiny_base, data):
        before = target.read_bytes()
        done = cli("train", tiny_base, "--data", data, "-o", target, *QUICK)
        assert done.code == 1 and "in use" in done.err and "step 1" not in done.err
        assert target.read_bytes() == before
    wrong = cli("train", tiny_base, "--data", data, "-o", tmp_path / "fox.gguf", "--option", "type=F99")
    assert wrong.code == 1 and "type: 'F99'" in wrong.err and "step 1" not in wrong.err


def test_what_was_learnt_is_kept_elsewhere_where_the_file_cannot_be_written(
    cli: Cli, tiny_base: Path, text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise SaveError("the disk is full", path=tmp_path / "fox.gguf")

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(elsewhere))
    monkeypatch.setattr("studio.cli.training_result.write_export", full)
    done = cli("train", tiny_base, "--data", text, "-o", tmp_path / "fox.gguf", *QUICK)
    assert done.code == 1 and "the disk is full" in done.err
    (kept,) = elsewhere.glob("lora-studio-*/trained.gguf")
    assert f"what was learnt is kept as {kept}" in done.err
    (report,) = cli("inspect", kept, "--base", tiny_base, "--json").json["files"]
    assert report["ranks"] == [2]


@pytest.mark.skipif(sys.platform == "win32", reason="its Ctrl-C reaches the tests as well")
def test_ctrl_c_ends_the_run_after_its_step_and_keeps_what_it_learnt(
    tiny_base: Path, text: Path, tmp_path: Path
) -> None:
    out = tmp_path / "fox.gguf"
    command = [sys.executable, "-m", "studio.cli", "train", tiny_base, "--data", text, "-o", out]
    command += ["--max-length", "16", "--targets", "attn_q", "--steps", "100000"]
    with subprocess.Popen(
        [str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None and process.stderr is not None
        while not process.stderr.readline().startswith("step 1/"):
            pass
        os.kill(process.pid, signal.SIGINT)
        said, rest = process.stdout.read(), process.stderr.read()
    assert process.returncode == 130
    assert "stopping after this step" in rest
    assert f"wrote {out}" in said and "interrupted after step" in said
    assert out.read_bytes().startswith(b"GGUF")


def test_a_step_is_told_in_one_line() -> None:
    progress = TrainingProgress(
        12,
        100,
        loss=2.34567,
        validation=1.0,
        gradient_norm=0.1234,
        tokens_per_second=181.6,
        seconds_left=83.2,
    )
    assert describe_step(progress) == (
        "step 12/100, loss 2.3457, norm 0.123, 182 tokens/s, 1:23 left, validation perplexity 2.718"
    )


@pytest.mark.parametrize(("seconds", "text"), [(7.4, "0:07"), (135, "2:15"), (3735, "1:02:15")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_a_perplexity_past_all_floats_is_infinite() -> None:
    assert perplexity(1e6) == float("inf")
