from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.contracts import BASE_ALONE, Sampling
from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.formats.gguf_file import GgufFile
from studio.jobs.generating import generate


@pytest.fixture(scope="module")
def tokenizer(smollm2_path: Path) -> Iterator[Tokenizer]:
    base = GgufFile.open(smollm2_path)
    yield tokenizer_from_metadata(base.metadata)
    base.close()


class Script:
    """An engine that says what it is told to: these tests are about the text, token by token."""

    def __init__(self, tokens: list[int]) -> None:
        self.tokens = tokens

    def generate(self, tokens: Any, state: Any, sampling: Any, *, stop: Any, cancelled: Any) -> Iterator[int]:
        for token in self.tokens:
            if token in stop:
                return
            yield token


def test_text_is_whole_at_every_token(tokenizer: Tokenizer) -> None:
    text = "Ahoy 🏴‍☠️ señor"
    engine: Any = Script(tokenizer.encode(text, add_special=False))
    updates = list(generate(engine, (1,), BASE_ALONE, Sampling(), tokenizer))
    assert all(text.startswith(update.text) for update in updates)
    assert updates[-1].text == text
    assert all(len(update.pieces) == len(update.ids) for update in updates)
    assert [update.finished for update in updates[:-1]] == [False] * (len(updates) - 1)
    assert updates[-1].finished


def test_half_a_character_at_the_end_is_shown_as_such(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode("🏴", add_special=False)
    engine: Any = Script(tokens[:-1])
    *_, last = generate(engine, (1,), BASE_ALONE, Sampling(), tokenizer)
    assert last.text == "\ufffd"


def test_the_models_end_token_ends_it(tokenizer: Tokenizer) -> None:
    end = next(iter(tokenizer.end_tokens))
    engine: Any = Script([*tokenizer.encode("Ahoy", add_special=False), end, end])
    *_, last = generate(engine, (1,), BASE_ALONE, Sampling(), tokenizer)
    assert last.text == "Ahoy"


def test_nothing_generated_is_one_finished_update(tokenizer: Tokenizer) -> None:
    engine: Any = Script([])
    (only,) = generate(engine, (1,), BASE_ALONE, Sampling(), tokenizer)
    assert only.finished and only.ids == () and only.tokens_per_second == 0.0
