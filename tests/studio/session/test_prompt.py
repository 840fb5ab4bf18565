from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from studio.contracts import MetadataValue
from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.formats.gguf_file import GgufFile
from studio.session.prompt import Prompt


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Iterator[Tokenizer]:
    base = GgufFile.open(smollm2_path)
    yield tokenizer_from_metadata(base.metadata)
    base.close()


def test_a_text_is_tokenised_as_it_is(tokenizer: Tokenizer) -> None:
    tokens = Prompt("The ship sailed").tokens(tokenizer)
    assert tokenizer.decode(list(tokens), skip_special=True) == "The ship sailed"


def test_a_chat_message_goes_through_the_models_template(tokenizer: Tokenizer) -> None:
    tokens = Prompt("Ahoy", chat=True).tokens(tokenizer)
    text = tokenizer.decode(list(tokens))
    assert "<|im_start|>user\nAhoy<|im_end|>" in text
    assert text.endswith("<|im_start|>assistant\n")


def test_a_template_without_a_bos_gets_the_one_that_the_model_asks_for(smollm2_path: Path) -> None:
    base = GgufFile.open(smollm2_path)
    bare: dict[str, MetadataValue] = {
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": "{{ messages[0].content }}",
    }
    tokenizer = tokenizer_from_metadata({**base.metadata, **bare})
    base.close()
    assert Prompt("Ahoy", chat=True).tokens(tokenizer) == Prompt("Ahoy").tokens(tokenizer)


def test_an_empty_text_is_a_beginning_only_where_the_tokenizer_makes_it_one(
    tokenizer: Tokenizer, smollm2_path: Path
) -> None:
    base = GgufFile.open(smollm2_path)
    with_bos = tokenizer_from_metadata({**base.metadata, "tokenizer.ggml.add_bos_token": True})
    base.close()
    assert Prompt().is_empty(tokenizer) and not Prompt().is_empty(with_bos)
    assert not Prompt("Ahoy").is_empty(tokenizer) and not Prompt(chat=True).is_empty(tokenizer)
