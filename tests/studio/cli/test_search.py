"""`lora-studio search`: the scales that predict a text best, and the line that uses them."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.cli.search_report import run_search
from studio.contracts import Loss, MixerState, Work
from studio.learning.searches import FoundBlend, SearchProgress
from studio.session.document import read_document

Cli = Callable[..., Any]


@pytest.fixture
def licence(tmp_path: Path) -> Path:
    """A text of the kind that one of the adapters was trained on."""
    path = tmp_path / "licence.txt"
    path.write_text("This software is provided 'as is', without any express or implied warranty.")
    return path


@pytest.fixture
def held_out(tmp_path: Path) -> Path:
    """A prompt with the answer that is wanted."""
    path = tmp_path / "held out.jsonl"
    path.write_text(json.dumps({"prompt": "In no event will the authors be", "completion": " liable."}))
    return path


def test_it_finds_scales_and_says_how_to_use_them(
    cli: Cli,
    smollm2_path: Path,
    adapters_dir: Path,
    licence: Path,
    held_out: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    session = tmp_path / "found.lorastudio.json"
    adapters = ["--adapter", f"{adapters_dir / 'smollm2-legal'}:0.3"]
    adapters += ["--adapter", str(adapters_dir / "smollm2-fortune")]
    options = ["--data", licence, "--validation", held_out, "--bounds", "0,1.2", "--steps", "5"]
    found = cli("search", smollm2_path, *adapters, *options, "--session", session, "--json").json
    assert found["start"] == {"smollm2-legal": 0.3, "smollm2-fortune": 1.0}
    assert all(0 <= scale <= 1.2 for scale in found["scales"].values())
    assert found["after"] < found["before"]
    assert found["after"] == pytest.approx(min(found["history"]))
    assert found["tried"] == len(found["history"]) == 5
    assert set(found["validation"]["others"]) == {
        "the base alone",
        "smollm2-legal alone",
        "smollm2-fortune alone",
        "all at 1/2",
        "all at 1",
    }
    assert [entry.scale for entry in read_document(session).adapters] == list(found["scales"].values())

    program, *words = shlex.split(found["command"])
    assert program == "lora-studio"
    assert cli(*words).code == 0
    measured = cli("eval", smollm2_path, "--adapter", "blend.gguf", "--file", licence, "--json").json
    assert measured["mean_nll"] == pytest.approx(found["after"], abs=1e-3)


def test_gains_become_a_curve_over_the_layers(
    cli: Cli, smollm2_path: Path, adapters_dir: Path, licence: Path
) -> None:
    adapter = ("--adapter", f"{adapters_dir / 'smollm2-legal'}:0.5")
    options = ("--gains", "--steps", "3", "--max-length", "16")
    shown = cli("search", smollm2_path, *adapter, "--data", licence, *options)
    assert shown.code == 0
    lines = shown.out.splitlines()
    assert lines[0].split() == ["adapter", "start", "found"]
    assert len(lines[2].removeprefix("smollm2-legal, by layer: ").split()) == 30
    words = shlex.split(lines[-1].removeprefix("use it: "))
    curve = words[words.index("--gains") + 1]
    assert [point.split(":")[0] for point in curve.removeprefix("1=").split("/")] == [*map(str, range(30))]


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (["--bounds", "1.5,-1.5"], 1, "bounds: there is nothing between 1.5 and -1.5"),
        (["--bounds", "1.5"], 2, "'1.5' are no bounds"),
        (["--steps", "0"], 1, "steps: 0 does not do for a search"),
        (["--data", "missing.txt"], 1, "missing.txt: "),
        (["--session", "no/such/folder/x.json"], 1, "no/such/folder"),
    ],
)
def test_what_is_wrong_is_named(
    cli: Cli,
    smollm2_path: Path,
    adapters_dir: Path,
    licence: Path,
    options: list[str],
    code: int,
    message: str,
) -> None:
    adapter = ("--adapter", adapters_dir / "smollm2-legal")
    outcome = cli("search", smollm2_path, *adapter, "--data", licence, *options)
    assert outcome.code == code
    assert message in outcome.err
    assert not outcome.out


def test_ctrl_c_ends_a_search_and_keeps_the_best_so_far() -> None:
    """Here it comes while the second blend is measured."""
    best = FoundBlend(MixerState(), before=Loss(4.0, 2.0), after=Loss(3.0, 2.0))

    def work() -> Work:
        yield SearchProgress(0, 2)
        yield SearchProgress(1, 2, best=best)
        raise KeyboardInterrupt

    assert run_search(work()) == (best, True)


def test_ctrl_c_before_any_blend_ends_the_command() -> None:
    def work() -> Work:
        yield SearchProgress(0, 2)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(work())


def test_a_text_of_one_token_has_nothing_to_predict(
    cli: Cli, smollm2_path: Path, adapters_dir: Path, tmp_path: Path
) -> None:
    short = tmp_path / "short.txt"
    short.write_text("a")
    outcome = cli("search", smollm2_path, "--adapter", adapters_dir / "smollm2-legal", "--data", short)
    assert outcome.code == 1
    assert "short.txt: there is nothing to learn in it" in outcome.err


def test_examples_end_at_the_context(cli: Cli, data_dir: Path, tmp_path: Path) -> None:
    tiny = data_dir / "architectures"
    data = tmp_path / "long.txt"
    data.write_text("all work and no play " * 40)
    adapter = ["--adapter", tiny / "llama-peft"]
    found = cli("search", tiny / "llama.gguf", *adapter, "--data", data, "--max-length", "100000", "--json")
    assert found.json["tried"] > 0
