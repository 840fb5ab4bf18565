"""`lora-studio eval` on the real base."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest


@pytest.fixture
def case(reference: list[Any]) -> Any:
    """The reference case with all three adapters, one of them at a negative scale."""
    return next(case for case in reference if len(case.scales) == 3)


def adapter_options(case: Any, adapters_dir: Path) -> list[str]:
    return [
        option
        for name, scale in case.scales.items()
        for option in ("--adapter", f"{adapters_dir / name}:{scale:g}")
    ]


def test_it_agrees_with_the_reference(
    cli: Callable[..., Any], case: Any, smollm2_path: Path, adapters_dir: Path, tmp_path: Path
) -> None:
    out = tmp_path / "logits.npy"
    options = adapter_options(case, adapters_dir)
    result = cli(
        "eval", smollm2_path, *options, "--prompt", case.prompt, "--json", "--logits", out, "--last"
    ).json
    logits = np.load(out)
    assert logits.dtype == np.float32
    assert logits.shape == case.logits.shape
    assert np.linalg.norm(logits - case.logits) < 1e-4 * np.linalg.norm(case.logits)
    assert result["tokens"] == case.tokens
    assert result["mean_nll"] == pytest.approx(case.mean_nll, abs=1e-4)
    assert [entry["id"] for entry in result["top"]][:3] == list(np.argsort(-case.logits)[:3])
    assert result["kl_to_base"] > 0.01
    assert result["entropy"] > 0
    assert result["ms"] > 0


def test_tokens_are_used_exactly_as_given(
    cli: Callable[..., Any], case: Any, smollm2_path: Path, tmp_path: Path
) -> None:
    out = tmp_path / "logits.npy"
    ids = ",".join(map(str, case.tokens))
    result = cli("eval", smollm2_path, "--tokens", ids, "--logits", out, "--top-k", "3", "--json").json
    assert result["tokens"] == case.tokens
    assert len(result["top"]) == 3
    assert result["kl_to_base"] == 0
    assert np.load(out).shape == (len(case.tokens), len(case.logits))


def test_one_token_has_no_likelihood(cli: Callable[..., Any], smollm2_path: Path) -> None:
    result = cli("eval", smollm2_path, "--tokens", "1", "--json").json
    assert result["mean_nll"] is None
    assert sum(entry["prob"] for entry in result["top"]) <= 1


def test_a_file_is_read_as_it_is(cli: Callable[..., Any], smollm2_path: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_bytes("one\r\ntwo ünd\n".encode())
    from_file = cli("eval", smollm2_path, "--file", text, "--json").json
    from_prompt = cli("eval", smollm2_path, "--prompt", "one\r\ntwo ünd\n", "--json").json
    assert from_file["tokens"] == from_prompt["tokens"]


def test_people_get_a_table(cli: Callable[..., Any], smollm2_path: Path) -> None:
    outcome = cli("eval", smollm2_path, "--prompt", "The capital of France is", "--top-k", "2")
    assert outcome.code == 0
    assert "KL(blend || base)" in outcome.out


@pytest.mark.parametrize("target", ["base.gguf", "adapter/adapter_config.json"])
def test_logits_never_replace_a_file_in_use(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path, tmp_path: Path, target: str
) -> None:
    (tmp_path / "base.gguf").symlink_to(smollm2_path)
    (tmp_path / "adapter").symlink_to(adapters_dir / "smollm2-python")
    adapter, out = tmp_path / "adapter", tmp_path / target
    before = out.read_bytes()
    outcome = cli(
        "eval", tmp_path / "base.gguf", "--adapter", adapter, "--tokens", "1", "--logits", out, "--json"
    )
    assert outcome.code == 1
    assert "in use" in outcome.err
    assert outcome.out == ""
    assert out.read_bytes() == before


def test_a_token_outside_the_vocabulary_is_refused(cli: Callable[..., Any], smollm2_path: Path) -> None:
    outcome = cli("eval", smollm2_path, "--tokens", "1,999999", "--json")
    assert outcome.code == 1
    assert "999999" in outcome.err


def test_text_that_is_not_utf8_is_refused(
    cli: Callable[..., Any], smollm2_path: Path, tmp_path: Path
) -> None:
    (tmp_path / "latin.txt").write_bytes(b"caf\xe9")
    outcome = cli("eval", smollm2_path, "--file", tmp_path / "latin.txt")
    assert outcome.code == 1
    assert "latin.txt: not UTF-8" in outcome.err


def test_it_never_imports_qt(smollm2_path: Path) -> None:
    script = (
        "import sys; from studio.cli.main import main\n"
        f"sys.argv = ['lora-studio', 'eval', {str(smollm2_path)!r}, '--tokens', '1', '--json']\n"
        "try: main()\n"
        "except SystemExit as end: assert end.code == 0, end.code\n"
        "print(*sorted(sys.modules), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("{")
    assert not {"PySide6", "pyqtgraph", "superqt"} & set(done.stderr.split())


def test_a_blend_that_overflows_is_refused(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path
) -> None:
    adapter = f"{adapters_dir / 'smollm2-fortune'}:1e9"
    outcome = cli("eval", smollm2_path, "--adapter", adapter, "--tokens", "1,2", "--json")
    assert (outcome.code, outcome.out) == (1, "")
    assert outcome.err.startswith("lora-studio: the blend overflows float32 at blk.")
    assert outcome.err.count("\n") == 1


def test_an_option_of_the_loader_is_handed_to_it(
    cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path, data_dir: Path
) -> None:
    beside = data_dir / "smollm2-fortune-f16.gguf"  # its loader has no such option, and is not troubled
    command = ("eval", smollm2_path, "--adapter", adapters_dir / "smollm2-fortune", "--adapter", beside)
    distances = {
        order: cli(*command, "--tokens", "504,3575", "--loader-option", f"row_order={order}", "--json").json[
            "kl_to_base"
        ]
        for order in ("auto", "as stored")
    }
    assert distances["auto"] != distances["as stored"]
    wrong = cli(
        "inspect",
        adapters_dir / "smollm2-fortune",
        "--base",
        smollm2_path,
        "--loader-option",
        "row_order=reversed",
    )
    assert wrong.code == 1
    assert "auto, as stored" in wrong.err


def test_without_a_tokenizer_tokens_have_no_piece(
    cli: Callable[..., Any], tmp_path: Path, smollm2_path: Path
) -> None:
    silent = tmp_path / "silent.gguf"  # the same model, its tokenizer of a kind that nobody knows
    data = smollm2_path.read_bytes()
    kind = b"tokenizer.ggml.model" + struct.pack("<IQ", 8, 4)
    assert data.count(kind + b"gpt2") == 1
    silent.write_bytes(data.replace(kind + b"gpt2", kind + b"gpt?"))
    result = cli("eval", silent, "--tokens", "1,2", "--top-k", "2", "--json").json
    assert [entry["piece"] for entry in result["top"]] == [None, None]
    assert "None" not in cli("eval", silent, "--tokens", "1,2", "--top-k", "2").out


def test_a_target_that_cannot_be_written_is_refused_before_the_work(
    cli: Callable[..., Any], smollm2_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        raise AssertionError("the forward pass began")

    monkeypatch.setattr("studio.engine.local.LocalEngine.open", never)
    outcome = cli("eval", smollm2_path, "--tokens", "1", "--logits", tmp_path / "missing" / "out.npy")
    assert outcome.code == 1
    assert "Check that the folder still exists" in outcome.err
