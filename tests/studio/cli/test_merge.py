"""`lora-studio merge`: a file that runs, what is said of it, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.formats.gguf_file import GgufFile

Cli = Callable[..., Any]


@pytest.fixture
def base(data_dir: Path) -> Path:
    return data_dir / "architectures" / "llama.gguf"


@pytest.fixture
def adapter(data_dir: Path) -> Path:
    return data_dir / "architectures" / "llama-peft"


def test_it_writes_a_model_that_is_verified(cli: Cli, base: Path, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    arguments = ("merge", base, "--adapter", f"{adapter}:0.5", "-o", out, "--type", "F16")
    found = cli(*arguments, "--json").json
    assert found["path"] == str(out)
    assert found["bytes"] == out.stat().st_size
    assert found["notes"] == ["No merged weight is quantised, so rounding loses nothing of the blend."]
    assert found["kept"] == {}


def test_it_says_how_much_of_the_delta_is_kept(cli: Cli, base: Path, adapter: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.gguf"
    arguments = ("merge", base, "--adapter", adapter, "-o", out, "--type", "q8_0")
    found = cli(*arguments, "--json").json
    assert set(found["types"].values()) == {"Q8_0"}
    assert found["kept"].keys() == found["types"].keys()
    assert all(0.9 < one["kept"] < 1.1 for one in found["kept"].values())
    said = cli(*arguments).out.splitlines()
    assert said[0].startswith(f"wrote {out} (")
    assert "keeps 100% of its delta" in said[1]


def test_types_are_kept_and_a_mix_is_what_it_says(
    cli: Cli, base: Path, adapter: Path, tmp_path: Path
) -> None:
    kept, mixed = tmp_path / "kept.gguf", tmp_path / "mixed.gguf"
    assert cli("merge", base, "--adapter", adapter, "-o", kept).code == 0
    assert (
        cli("merge", base, "--adapter", adapter, "-o", mixed, "--type", "Q5_1", "--budget", "1.0x").code == 0
    )
    original = GgufFile.open(base)
    for path, types in ((kept, {"F16", "F32"}), (mixed, {"Q5_1", "Q8_0", "F32", "F16"})):
        file = GgufFile.open(path)
        assert list(file.tensors) == list(original.tensors)
        assert {info.type_name for info in file.tensors.values()} <= types
        file.close()
    original.close()


def test_a_method_of_combining_is_merged_whole(cli: Cli, base: Path, adapter: Path, tmp_path: Path) -> None:
    """Two of one adapter add up; their average is one of it."""
    out = tmp_path / "out.gguf"
    arguments = ("merge", base, "--type", "F32", "-o", out)
    assert cli(*arguments, "--adapter", adapter).code == 0
    alone = GgufFile.open(out)
    wanted = alone.dense("blk.0.attn_q.weight")
    alone.close()
    twice = ("--adapter", adapter, "--adapter", adapter)
    assert cli(*arguments, *twice, "--method", "average").code == 0
    averaged = GgufFile.open(out)
    np.testing.assert_allclose(averaged.dense("blk.0.attn_q.weight"), wanted, atol=1e-6)
    assert averaged.metadata["lora_studio.merge.method"] == "average"
    averaged.close()


@pytest.mark.parametrize(
    ("more", "code", "said"),
    [
        (["--type", "Q9"], 1, "type: 'Q9' does not fit this option. Choose one of keep, F32"),
        (["--budget", "much"], 2, "'much' is no multiple of the size"),
        (["--budget", "0.5x"], 1, "budget: 0.5 does not fit this option"),
        (["--rounding", "down"], 2, "down"),
        (["--calibration", "none.txt", "--type", "Q8_0"], 1, "none.txt: the calibration text cannot be read"),
        (["--imatrix", "none.dat"], 1, "none.dat: the importance matrix cannot be read"),
    ],
)
def test_what_cannot_be_is_refused(
    cli: Cli, base: Path, adapter: Path, tmp_path: Path, more: list[str], code: int, said: str
) -> None:
    found = cli("merge", base, "--adapter", adapter, "-o", tmp_path / "out.gguf", *more)
    assert found.code == code
    assert said in found.err
    assert not list(tmp_path.iterdir())
