"""A wanted text counts whole; after a prompt, the answer alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.formats.gguf_file import GgufFile
from studio.learning.wanted import Wanted


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Tokenizer:
    base = GgufFile.open(smollm2_path)
    try:
        return tokenizer_from_metadata(base.metadata, base.path)
    finally:
        base.close()


def counted(wanted: Wanted, tokenizer: Tokenizer) -> str:
    """The part of an example that is predicted, as text."""
    example = wanted.example(tokenizer)
    return tokenizer.decode([t for t, weight in zip(example.tokens, example.weights, strict=True) if weight])


def test_a_text_counts_from_its_second_token_on(tokenizer: Tokenizer) -> None:
    assert counted(Wanted("The ship sailed"), tokenizer) == " ship sailed"


def test_after_a_prompt_the_answer_alone_counts(tokenizer: Tokenizer) -> None:
    assert counted(Wanted(" a brig", "What sailed? It was"), tokenizer).startswith(" a brig")
    assert "sailed" not in counted(Wanted(" a brig", "What sailed? It was"), tokenizer)


def test_a_chat_counts_the_answer_in_the_template(tokenizer: Tokenizer) -> None:
    assert counted(Wanted("A brig.", "What sailed?", chat=True), tokenizer).startswith("A brig.")
    example = Wanted("A brig.", "What sailed?", chat=True).example(tokenizer)
    assert "<|im_start|>assistant" in tokenizer.decode(list(example.tokens))
