"""What the model will see of an example."""

from __future__ import annotations

from studio.contracts import Example
from studio.engine.tokenizer import Tokenizer
from studio.learning.preview import Run, preview, runs


def test_tokens_come_with_their_text_and_whether_they_are_predicted(smollm2_tokenizer: Tokenizer) -> None:
    tokens = smollm2_tokenizer.encode("Hi \N{SNOWMAN}!<|im_end|>")
    seen = preview(Example.of(tokens, 2), smollm2_tokenizer)
    assert tuple(token.token for token in seen) == tuple(tokens)
    assert "" in {token.text for token in seen}  # the snowman is more than one token
    assert runs(seen) == [Run("Hi ", False), Run("\N{SNOWMAN}!<|im_end|>", True)]


def test_the_first_token_is_never_predicted(smollm2_tokenizer: Tokenizer) -> None:
    seen = preview(Example((100, 101), (1.0, 1.0)), smollm2_tokenizer)
    assert [token.predicted for token in seen] == [False, True]


def test_a_character_cut_short_is_shown_as_such(smollm2_tokenizer: Tokenizer) -> None:
    tokens = smollm2_tokenizer.encode("\N{SNOWMAN}")[:-1]
    assert runs(preview(Example.of(tokens), smollm2_tokenizer))[-1].text.endswith("�")
