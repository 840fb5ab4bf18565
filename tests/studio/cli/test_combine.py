"""`lora-studio stack --method`, `resize` and `extract`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf

Cli = Callable[..., Any]

SHAPES = {"blk.0.attn_q.weight": (16, 16), "blk.1.ffn_up.weight": (24, 16)}
ARCHITECTURE: Any = {"general.architecture": "llama", "llama.attention.head_count": 4}


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a base, a model tuned from it by rank 2, and two adapters of rank 4."""
    random = np.random.default_rng(0)

    def low_rank(shape: tuple[int, int], rank: int) -> tuple[Any, Any]:
        return random.standard_normal((rank, shape[1]), "f4"), random.standard_normal((shape[0], rank), "f4")

    base = {name: random.standard_normal(shape, "f4") for name, shape in SHAPES.items()}
    write_gguf(tmp_path / "base.gguf", ARCHITECTURE, base)
    changes = {name: low_rank(shape, 2) for name, shape in SHAPES.items()}
    tuned = {name: values + changes[name][1] @ changes[name][0] for name, values in base.items()}
    write_gguf(tmp_path / "tuned.gguf", ARCHITECTURE, tuned)
    keys: Any = {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 4.0}
    for number in (1, 2):
        factors = {
            f"{name}.lora_{half}": factor
            for name, shape in SHAPES.items()
            for half, factor in zip("ab", low_rank(shape, 4), strict=True)
        }
        write_gguf(tmp_path / f"{number}.gguf", ARCHITECTURE | keys, factors)
    return tmp_path


def delta(path: Path, name: str) -> Any:
    file = GgufFile.open(path)
    a, b = file.dense(f"{name}.lora_a"), file.dense(f"{name}.lora_b")
    alpha: Any = file.metadata["adapter.lora.alpha"]
    file.close()
    return alpha / a.shape[0] * (b.astype(np.float64) @ a)


def cut(dense: Any, rank: int) -> Any:
    left, values, right = np.linalg.svd(dense)
    return (left[:, :rank] * values[:rank]) @ right[:rank]


def blend(files: Path) -> list[str]:
    return [
        str(files / "base.gguf"),
        "--adapter",
        f"{files / '1.gguf'}:0.5",
        "--adapter",
        f"{files / '2.gguf'}",
    ]


def test_a_stack_is_cut_to_the_best_of_its_rank(cli: Cli, files: Path) -> None:
    out = files / "out.gguf"
    for arguments in (["--rank", "3"], ["--method", "svd", "--method-option", "rank=3"]):
        assert cli("stack", *blend(files), "-o", out, *arguments, "--json").json["path"] == str(out)
        for name in SHAPES:
            expected = cut(0.5 * delta(files / "1.gguf", name) + delta(files / "2.gguf", name), 3)
            assert np.linalg.norm(delta(out, name) - expected) < 1e-5 * np.linalg.norm(expected)


def test_a_dense_method_needs_a_rank_or_an_energy(cli: Cli, files: Path) -> None:
    out = files / "out.gguf"
    refused = cli("stack", *blend(files), "-o", out, "--method", "ties")
    assert (refused.code, "Compress it to a rank" in refused.err, out.exists()) == (1, True, False)
    for limit in (["--rank", "16"], ["--energy", "0.9"]):
        options = ("--method-option", "density=1", "--method-option", "divide_by=nothing")
        assert (
            cli("stack", *blend(files), "-o", out, "--method", "magnitude_prune", *options[:2], *limit).code
            == 0
        )
    name = "blk.0.attn_q.weight"
    exact = 0.5 * delta(files / "1.gguf", name) + delta(files / "2.gguf", name)
    kept = np.linalg.norm(delta(out, name)) ** 2 / np.linalg.norm(exact) ** 2
    assert 0.9 <= kept < 1


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--method", "nothing"], 2, "there is: average, breadcrumbs, cat"),
        (["--method-option", "rank=3"], 2, "options belong to a --method"),
        (["--method", "ties", "--method-option", "rank=3"], 1, "ties has no option 'rank'"),
        (["--method", "ties", "--method-option", "density=7"], 1, "Give a number from 0.001 to 1.0"),
        (["--method", "ties", "--method-option", "density"], 2, "is not NAME=VALUE"),
        (["--rank", "-1"], 2, "--rank"),
    ],
)
def test_what_is_no_method_or_option_is_refused(
    cli: Cli, files: Path, arguments: list[str], code: int, message: str
) -> None:
    refused = cli("stack", *blend(files), "-o", files / "out.gguf", *arguments)
    assert refused.code == code
    assert message in refused.err


def test_any_exporter_writes_what_a_method_makes(cli: Cli, files: Path) -> None:
    limits = ("--method", "ties", "--method-option", "density=0.5", "--rank", "3")
    written = cli("export", *blend(files), "-o", files / "peft", "--to", "peft", *limits, "--json").json
    assert "PEFT" in written["format"]
    cli("stack", *blend(files), "-o", files / "ties.gguf", *limits)
    back = cli("convert", files / "peft", "--base", files / "base.gguf", "-o", files / "back.gguf")
    assert back.code == 0, back.err
    for name in SHAPES:
        expected = delta(files / "ties.gguf", name)
        assert np.linalg.norm(delta(files / "back.gguf", name) - expected) < 1e-5 * np.linalg.norm(expected)


def test_resizing_tells_the_error_before_and_after(cli: Cli, files: Path) -> None:
    source, out = files / "1.gguf", files / "small.gguf"
    errors = cli("resize", source, "--json").json["errors"]
    assert errors[0] == 1
    assert errors == sorted(errors, reverse=True)
    assert "rank   error" in cli("resize", source).out
    written = cli("resize", source, "-o", out, "--rank", "2", "--json").json
    assert written["ranks"] == [2]
    assert written["error"] == pytest.approx(errors[2], rel=1e-5)
    for name in SHAPES:
        expected = cut(delta(source, name), 2)
        assert np.linalg.norm(delta(out, name) - expected) < 1e-5 * np.linalg.norm(expected)
    for limit in (
        ["--sv-ratio", "1.5"],
        ["--sv-fro", "0.9"],
        ["--sv-cumulative", "0.5"],
        ["--energy", "0.8"],
    ):
        written = cli("resize", source, "--base", files / "base.gguf", "-o", out, *limit, "--json").json
        assert 1 <= min(written["ranks"]) < 4
    assert "error: " in cli("resize", source, "-o", out, "--rank", "2").out


def test_resizing_needs_a_limit_and_another_file(cli: Cli, files: Path, adapters_dir: Path) -> None:
    source = files / "1.gguf"
    assert cli("resize", source, "-o", files / "out.gguf").code == 2
    refused = cli("resize", source, "-o", source, "--rank", "2")
    assert (refused.code, "in use" in refused.err) == (1, True)
    refused = cli("resize", adapters_dir / "smollm2-python", "-o", files / "out.gguf", "--rank", "2")
    assert (refused.code, "--base" in refused.err) == (1, True)


def test_what_tuning_changed_becomes_an_adapter(cli: Cli, files: Path) -> None:
    out = files / "extracted.gguf"
    written = cli(
        "extract", files / "base.gguf", files / "tuned.gguf", "-o", out, "--rank", "2", "--json"
    ).json
    assert written["ranks"] == [2]
    for name in SHAPES:
        base, tuned = GgufFile.open(files / "base.gguf"), GgufFile.open(files / "tuned.gguf")
        expected = tuned.dense(name) - base.dense(name)
        base.close()
        tuned.close()
        assert np.linalg.norm(delta(out, name) - expected) < 1e-5 * np.linalg.norm(expected)
    for name in ("base.gguf", "tuned.gguf"):
        refused = cli("extract", files / "base.gguf", files / "tuned.gguf", "-o", files / name)
        assert (refused.code, "in use" in refused.err) == (1, True)


def test_a_tuned_embedding_goes_where_it_can_be_held(cli: Cli, files: Path) -> None:
    """The base has no output of its own: llama.cpp takes no adapter on its embedding, PEFT does."""
    random = np.random.default_rng(3)
    base, embedding = files / "tied.gguf", {"token_embd.weight": random.standard_normal((30, 16), "f4")}
    weights = {name: random.standard_normal(shape, "f4") for name, shape in SHAPES.items()}
    write_gguf(base, ARCHITECTURE, weights | embedding)
    tuned = {name: values + np.float32(0.1) for name, values in (weights | embedding).items()}
    write_gguf(files / "tied-tuned.gguf", ARCHITECTURE, tuned)
    both = (base, files / "tied-tuned.gguf", "--rank", 2)
    written = cli("extract", *both, "-o", files / "e.gguf", "--json").json
    (note,) = written["notes"]
    assert note.startswith("token_embd.weight changed as well") and "was left out" in note
    assert note in cli("extract", *both, "-o", files / "e.gguf").out
    whole = cli("extract", *both, "-o", files / "e", "--json").json
    assert whole["notes"] == []
    found = cli("inspect", files / "e", "--base", base, "--json").json["files"][0]
    assert found["modules"] == len(SHAPES) + 1


def test_bare_weights_are_resized_with_their_alpha(cli: Cli, adapters_dir: Path, files: Path) -> None:
    bare = files / "bare.safetensors"
    bare.write_bytes((adapters_dir / "smollm2-python" / "adapter_model.safetensors").read_bytes())
    assert "--alpha" in cli("resize", bare).err
    assert cli("resize", bare, "--alpha", 16, "--json").json["errors"][0] == 1
