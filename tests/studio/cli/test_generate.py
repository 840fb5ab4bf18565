"""`lora-studio generate`: continue a text, answer a message."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def test_temperature_0_is_greedy_and_text_is_what_the_ids_say(
    cli: Callable[..., Any], smollm2_path: Path
) -> None:
    command = (
        "generate",
        smollm2_path,
        "--prompt",
        "The capital of France is",
        "--max-tokens",
        "6",
        "--json",
    )
    result = cli(*command, "--temperature", "0").json
    assert len(result["ids"]) == 6
    assert "Paris" in result["text"]
    assert result["tokens_per_s"] > 0
    assert cli(*command).json["ids"] == result["ids"]


def test_a_seed_repeats_the_choice(cli: Callable[..., Any], smollm2_path: Path) -> None:
    command = (
        "generate",
        smollm2_path,
        "--prompt",
        "Once",
        "--max-tokens",
        "6",
        "--temperature",
        "1.5",
        "--json",
    )
    first, again, other = (cli(*command, "--seed", seed).json["ids"] for seed in ("7", "7", "8"))
    assert first == again
    assert first != other


def test_an_adapter_changes_the_text(cli: Callable[..., Any], smollm2_path: Path, adapters_dir: Path) -> None:
    command = ("generate", smollm2_path, "--prompt", "THIS SOFTWARE IS", "--max-tokens", "8", "--json")
    with_adapter = cli(*command, "--adapter", f"{adapters_dir / 'smollm2-legal'}:1.5").json
    assert with_adapter["ids"] != cli(*command).json["ids"]


def test_chat_puts_the_message_in_the_template(cli: Callable[..., Any], smollm2_path: Path) -> None:
    outcome = cli("generate", smollm2_path, "--chat", "Say hello.", "--max-tokens", "8")
    assert outcome.code == 0
    assert "<|im" not in outcome.out
    assert outcome.out.strip()
