"""What the model will see of an example: its tokens as text, and which of them it learns to predict."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable

    from studio.contracts import Example
    from studio.engine.tokenizer import Tokenizer


class SeenToken(NamedTuple):
    """A token as it is shown.

    Attributes
    ----------
    token
        Its id.
    text
        The text that it completes; empty where a character goes on in the next token.
    predicted
        Whether it is learnt, and not only read.
    """

    token: int
    text: str
    predicted: bool


class Run(NamedTuple):
    """Neighbouring tokens that are all predicted, or all only read."""

    text: str
    predicted: bool


def preview(example: Example, tokenizer: Tokenizer) -> tuple[SeenToken, ...]:
    """Return the tokens of an example with their text; joined, the texts are all that it says."""
    stream = tokenizer.stream()
    texts = [stream.feed(token) for token in example.tokens]
    if texts:
        texts[-1] += stream.finish()
    return tuple(
        SeenToken(token, text, index > 0 and weight > 0)
        for index, (token, text, weight) in enumerate(
            zip(example.tokens, texts, example.weights, strict=True)
        )
    )


def runs(seen: Iterable[SeenToken]) -> list[Run]:
    """Join neighbours that are alike."""
    return [
        Run("".join(token.text for token in alike), predicted)
        for predicted, alike in groupby(seen, key=lambda token: token.predicted)
    ]
