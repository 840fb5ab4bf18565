"""Streams cut into sequences, and examples shortened."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from studio.contracts import Example
from studio.learning.sequences import fitted, trimmed, windows

BOS = 99


@given(st.integers(0, 50), st.integers(2, 12), st.booleans())
def test_every_token_is_predicted_once(length: int, max_length: int, with_bos: bool) -> None:
    before = [BOS] if with_bos else []
    cut = list(windows(range(length), max_length, before))
    predicted = Counter(
        token
        for example in cut
        for token, weight in zip(example.tokens[1:], example.weights[1:], strict=True)
        if weight
    )
    assert predicted == Counter(range(0 if with_bos else 1, length))
    assert all(2 <= len(example.tokens) <= max_length for example in cut)
    assert all(example.tokens[:1] == (BOS,) for example in cut if with_bos)


def test_the_last_sequence_may_be_shorter() -> None:
    assert [example.tokens for example in windows(range(8), 4)] == [(0, 1, 2, 3), (3, 4, 5, 6), (6, 7)]
    assert [example.tokens for example in windows(range(4), 4, [BOS])] == [(BOS, 0, 1, 2), (BOS, 3)]


def test_what_follows_the_last_prediction_is_left_out() -> None:
    assert trimmed(Example((1, 2, 3, 4), (0, 1, 0, 0))) == Example((1, 2), (0, 1))
    assert trimmed(Example((1, 2), (1, 0))) == Example((), ())


@pytest.mark.parametrize(
    ("prompt", "answer", "tokens"),
    [
        (3, 2, (BOS, 1, 2, 3, 101, 102)),
        (9, 2, (BOS, 5, 6, 7, 8, 9, 101, 102)),  # the prompt's end and the whole answer
        (9, 9, (BOS, 8, 9, 101, 102, 103, 104, 105)),  # a quarter for the prompt, the answer's beginning
        (1, 9, (BOS, 1, 101, 102, 103, 104, 105, 106)),
    ],
)
def test_an_example_is_shortened_to_fit(prompt: int, answer: int, tokens: tuple[int, ...]) -> None:
    whole = Example.of((BOS, *range(1, prompt + 1), *range(101, 101 + answer)), 1 + prompt)
    shorter = fitted(whole, 8, kept=1)
    assert shorter.tokens == tokens
    assert shorter.weights == tuple(float(token > 100) for token in tokens)


@given(st.integers(0, 30), st.integers(1, 30), st.integers(2, 20), st.integers(0, 1))
def test_something_is_left_to_predict(prompt: int, answer: int, max_length: int, kept: int) -> None:
    whole = Example.of(range(kept + prompt + answer), kept + prompt)
    shorter = fitted(whole, max_length, kept)
    assert len(shorter.tokens) == min(max_length, len(whole.tokens))
    assert shorter.tokens[:kept] == whole.tokens[:kept]
    assert bool(shorter.weight) == bool(whole.weight)
