"""The tokens that llama.cpp's own tests expect, on real vocabularies (LORA_STUDIO_VOCABULARIES)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from studio.engine.tokenizer import tokenizer_from_metadata
from studio.formats.gguf_file import GgufFile

Vectors = Callable[[str], tuple[Path, list[tuple[str, list[int]]]]]


@pytest.mark.parametrize(
    "name",
    [
        *("gpt-2", "starcoder", "refact", "command-r", "falcon", "mpt", "llama-bpe", "qwen2", "qwen35"),
        *("deepseek-llm", "deepseek-coder", "llama-spm", "phi-3", "gemma-4"),
    ],
)
def test_vectors_of_llama_cpp(vocabulary_vectors: Vectors, name: str) -> None:
    path, vectors = vocabulary_vectors(name)
    base = GgufFile.open(path)
    tokenizer = tokenizer_from_metadata(base.metadata, path)
    base.close()
    for text, expected in vectors:
        tokens = tokenizer.encode(text, add_special=False, parse_special=False)
        assert tokens == expected
        assert tokenizer.decode(tokens) == text
