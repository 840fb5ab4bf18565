"""`lora-studio tokenize`: text, files and JSON lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Vectors = Callable[[str], tuple[Path, list[tuple[str, list[int]]]]]


def test_ids_and_pieces(cli: Callable[..., Any], smollm2_path: Path) -> None:
    result = cli("tokenize", smollm2_path, "The capital of France", "--json").json
    assert result["ids"] == [504, 3575, 282, 4649]
    assert "".join(result["pieces"]) == "The capital of France"


def test_people_get_one_token_a_line(cli: Callable[..., Any], smollm2_path: Path) -> None:
    assert cli("tokenize", smollm2_path, "The capital").out == " 504  'The'\n3575  ' capital'\n"


def test_the_empty_text_is_a_text(cli: Callable[..., Any], smollm2_path: Path) -> None:
    assert cli("tokenize", smollm2_path, "", "--json").json == {"ids": [], "pieces": []}


def test_no_special_parses_no_control_tokens(cli: Callable[..., Any], smollm2_path: Path) -> None:
    marked = "<|im_start|>user"
    special = cli("tokenize", smollm2_path, marked, "--json").json["ids"]
    plain = cli("tokenize", smollm2_path, marked, "--no-special", "--json").json["ids"]
    assert len(special) == 2
    assert len(plain) > 2


def test_a_file_is_tokenized_whole(cli: Callable[..., Any], smollm2_path: Path, tmp_path: Path) -> None:
    (tmp_path / "text.txt").write_bytes(b"a\r\nb")
    result = cli("tokenize", smollm2_path, "--file", tmp_path / "text.txt", "--json").json
    assert "".join(result["pieces"]) == "a\r\nb"


def test_jsonl_gives_one_list_a_line(cli: Callable[..., Any], smollm2_path: Path, tmp_path: Path) -> None:
    texts = ["The capital", "", "two\nlines", "line\u2028separator", "🙂"]
    lines = tmp_path / "texts.jsonl"
    lines.write_text("".join(json.dumps(text, ensure_ascii=False) + "\n" for text in texts), encoding="utf-8")
    outcome = cli("tokenize", smollm2_path, "--jsonl", lines)
    ids = [json.loads(line) for line in outcome.out.splitlines()]
    assert len(ids) == len(texts)
    assert ids[:2] == [[504, 3575], []]


def test_a_line_that_is_no_json_string_is_refused_by_number(
    cli: Callable[..., Any], smollm2_path: Path, tmp_path: Path
) -> None:
    for bad in ("[1]", "", "unquoted", '"\\ud800"'):
        (tmp_path / "texts.jsonl").write_text(f'"fine"\n{bad}\n', encoding="utf-8")
        outcome = cli("tokenize", smollm2_path, "--jsonl", tmp_path / "texts.jsonl")
        assert outcome.code == 1
        assert "line 2" in outcome.err
        assert outcome.out.count("\n") == 1  # what came before stands


@pytest.mark.parametrize("name", ["gpt-2", "llama-spm", "phi-3", "gemma-4"])
def test_jsonl_gives_the_vectors_of_llama_cpp(
    cli: Callable[..., Any], vocabulary_vectors: Vectors, tmp_path: Path, name: str
) -> None:
    path, vectors = vocabulary_vectors(name)
    lines = tmp_path / "texts.jsonl"
    lines.write_text("".join(json.dumps(text) + "\n" for text, _ in vectors), encoding="utf-8")
    outcome = cli("tokenize", path, "--jsonl", lines, "--no-special")
    assert [json.loads(line) for line in outcome.out.splitlines()] == [tokens for _, tokens in vectors]
