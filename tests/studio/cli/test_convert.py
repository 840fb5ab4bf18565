"""`lora-studio convert`: one adapter, from format to format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import GgufFile, read_safetensors, write_gguf

Cli = Callable[..., Any]


@pytest.fixture
def base(data_dir: Path) -> Path:
    return data_dir / "architectures" / "llama.gguf"


@pytest.fixture
def peft(data_dir: Path) -> Path:
    return data_dir / "architectures" / "llama-peft"


def test_peft_to_gguf_and_back_is_what_it_was(cli: Cli, base: Path, peft: Path, tmp_path: Path) -> None:
    gguf, back = tmp_path / "a.gguf", tmp_path / "back"
    report = cli("convert", peft, "--base", base, "-o", gguf, "--verify", "--json").json
    assert (report["format"], report["modules"], report["lost"]) == ("stacked adapter (GGUF)", 14, [])
    assert report["verified"]["passed"] is True
    report = cli("convert", gguf, "--base", base, "-o", back, "--json").json
    assert report["format"] == "PEFT directory"
    first, last = (read_safetensors(folder / "adapter_model.safetensors") for folder in (peft, back))
    scales = []
    for folder in (peft, back):
        config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
        scales.append(config["lora_alpha"] / config["r"])
    assert first.keys() == last.keys()
    for key in (key for key in first if "lora_B" in key):
        a = key.replace("lora_B", "lora_A")
        np.testing.assert_allclose(
            scales[1] * last[key] @ last[a], scales[0] * first[key] @ first[a], rtol=1e-4, atol=1e-5
        )


def test_the_format_is_named_by_a_part_of_its_name(cli: Cli, base: Path, peft: Path, tmp_path: Path) -> None:
    shown = cli(
        "convert", peft, "--base", base, "-o", tmp_path / "mlx", "--to", "mlx", "--option", "type=F16"
    )
    assert shown.code == 0, shown.err
    assert "MLX directory, 14 modules" in shown.out
    assert (tmp_path / "mlx" / "adapters.safetensors").exists()
    refused = cli("convert", peft, "--base", base, "-o", tmp_path / "x", "--to", "nova")
    assert (refused.code, "no exporters are called 'nova'" in refused.err) == (1, True)
    refused = cli("convert", peft, "--base", base, "-o", tmp_path / "x", "--to", "gguf")
    assert (refused.code, "Choose one of" in refused.err) == (1, True)
    refused = cli("convert", peft, "--base", base, "-o", tmp_path / "x", "--option", "colour=red")
    assert (refused.code, "has no option 'colour'" in refused.err) == (1, True)
    assert cli("convert", peft, "-o", tmp_path / "x.gguf", "--option", "type").code == 2


def test_a_gguf_adapter_needs_no_base_for_gguf(cli: Cli, base: Path, peft: Path, tmp_path: Path) -> None:
    cli("convert", peft, "--base", base, "-o", tmp_path / "a.gguf")
    report = cli(
        "convert", tmp_path / "a.gguf", "-o", tmp_path / "b.gguf", "--option", "type=F16", "--json"
    ).json
    assert report["modules"] == 14
    file = GgufFile.open(tmp_path / "b.gguf")
    assert file.file_type == "F16"
    file.close()


@pytest.mark.parametrize("source", ["peft", "gguf"])
def test_rows_are_never_guessed(cli: Cli, base: Path, peft: Path, tmp_path: Path, source: str) -> None:
    """To PEFT from GGUF the head counts are needed, from PEFT the architecture as well."""
    if source == "gguf":
        cli("convert", peft, "--base", base, "-o", tmp_path / "a.gguf")
        peft = tmp_path / "a.gguf"
    refused = cli("convert", peft, "-o", tmp_path / "out")
    assert (refused.code, "--base" in refused.err, "None" in refused.err) == (1, True, False)
    assert not (tmp_path / "out").exists()


def test_what_is_lost_is_said(cli: Cli, base: Path, tmp_path: Path) -> None:
    keys: dict[str, Any] = {
        "general.architecture": "llama",
        "general.type": "adapter",
        "adapter.type": "lora",
        "adapter.lora.alpha": 2.0,
    }
    ones = {"lora_a": np.ones((2, 64), np.float32), "lora_b": np.ones((64, 2), np.float32)}
    tensors: dict[str, Any] = {
        f"blk.{layer}.attn_output.weight.{half}": value for layer in (0, 9) for half, value in ones.items()
    }
    tensors["blk.0.attn_norm.weight"] = np.ones(64, np.float32)
    write_gguf(tmp_path / "a.gguf", keys, tensors)
    shown = cli("convert", tmp_path / "a.gguf", "--base", base, "-o", tmp_path / "out")
    assert "lost: blk.9.attn_output.weight" in shown.out
    assert "note: Norm weights are skipped" in shown.out


def test_verifying_needs_a_base_and_an_alpha_a_file_without_one(
    cli: Cli, base: Path, peft: Path, tmp_path: Path
) -> None:
    assert cli("convert", peft, "-o", tmp_path / "out", "--verify").code == 2
    assert cli("convert", peft, "--base", base, "-o", tmp_path / "out", "--alpha", "3").code in (1, 2)
    assert not (tmp_path / "out").exists()
