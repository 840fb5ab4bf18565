"""The tokenizer files give the tokens that our own tokenizer gives."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import tokenizers

from studio.engine.tokenizer import tokenizer_from_metadata
from studio.engine.tokenizer.hugging_face import tokenizer_files
from studio.formats.gguf_file import GgufFile

TEXTS = [
    "The old fisherman said: 'It's 1234 miles!'",
    "  leading and   inner spaces\n\n\ttabs\n",
    "Grüße, 東京, עברית, 🙂‍↔️ and \u0301 a mark",
    "<|im_start|>user\nHello<|im_end|>\n",
    "",
]


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(smollm2_path)
    yield base
    base.close()


def test_the_tokens_are_the_same(smollm2: GgufFile) -> None:
    files, notes = tokenizer_files(smollm2)
    assert notes == []
    theirs = tokenizers.Tokenizer.from_str(files["tokenizer.json"])
    ours = tokenizer_from_metadata(smollm2.metadata)
    for text in TEXTS:
        ids = ours.encode(text)
        assert theirs.encode(text).ids == ids
        assert theirs.decode(ids, skip_special_tokens=False) == ours.decode(ids)


def test_roles_and_template_go_along(smollm2: GgufFile) -> None:
    files, _ = tokenizer_files(smollm2)
    config = json.loads(files["tokenizer_config.json"])
    assert config["chat_template"] == smollm2.metadata["tokenizer.chat_template"]
    assert (config["bos_token"], config["eos_token"]) == ("<|im_start|>", "<|im_end|>")


class SentencePieces:
    """As much of a base as is asked."""

    path = Path("base.gguf")

    def __init__(self, **metadata: object) -> None:
        self.metadata = metadata


@pytest.mark.parametrize(
    "metadata",
    [
        {"tokenizer.ggml.model": "llama"},
        {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "nova"},
        {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"},  # and no tokens
        {},
    ],
)
def test_what_cannot_be_told_whole_is_left_out_and_said(metadata: dict[str, object]) -> None:
    files, notes = tokenizer_files(SentencePieces(**metadata))  # type: ignore[arg-type]
    assert files == {}
    assert "take those of the original model" in notes[0]
