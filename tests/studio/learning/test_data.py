"""Files to learn from, sound and not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from studio.contracts import Example
from studio.engine.tokenizer import Tokenizer
from studio.errors import CancelledError, FormatError, StudioError, UnsupportedError
from studio.learning import records
from studio.learning.data import read_examples

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file of JSON lines."""

    def write(*rows: object, name: str = "data.jsonl") -> Path:
        path = tmp_path / name
        path.write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
        return path

    return write


def learnt(example: Example, tokenizer: Tokenizer) -> tuple[str, str]:
    """Return what is only read and what is predicted."""
    pairs = list(zip(example.tokens, example.weights, strict=True))
    return (
        tokenizer.decode([token for token, weight in pairs if not weight]),
        tokenizer.decode([token for token, weight in pairs if weight]),
    )


def test_plain_text_is_packed(tmp_path: Path, smollm2_tokenizer: Tokenizer) -> None:
    text = "The old fisherman went to sea.\n" * 20
    (tmp_path / "data.txt").write_bytes(b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode())
    examples = read_examples(tmp_path / "data.txt", smollm2_tokenizer, max_length=32)
    tokens = smollm2_tokenizer.encode(text)
    assert [*examples[0].tokens[:1], *(token for one in examples for token in one.tokens[1:])] == tokens
    assert {len(one.tokens) for one in examples[:-1]} == {32}
    assert (examples.predicted, examples.shortened, examples.left_out) == (len(tokens) - 1, 0, 0)
    assert str(examples) == "6 examples, 165 tokens, 159 of them predicted"


def test_lines_with_texts_end_with_the_end_token(write: Write, smollm2_tokenizer: Tokenizer) -> None:
    path = write({"text": "One two."}, {"text": ""}, {"text": "Three four five six seven."}, name="data")
    examples = read_examples(path, smollm2_tokenizer, max_length=6)
    assert [smollm2_tokenizer.decode(example.tokens) for example in examples] == [
        "One two.<|im_end|>",
        "Three four five six seven.",
        ".<|im_end|>",
    ]
    assert str(examples).endswith("; 1 left out with nothing to predict")


def test_texts_can_be_packed(write: Write, smollm2_tokenizer: Tokenizer) -> None:
    path = write({"text": "One two."}, {"text": "Three four five."})
    (example,) = read_examples(path, smollm2_tokenizer, pack=True)
    assert smollm2_tokenizer.decode(example.tokens) == "One two.<|im_end|>Three four five.<|im_end|>"
    assert example.weights == (0.0, *[1.0] * (len(example.tokens) - 1))


def test_of_a_prompt_the_completion_is_learnt(write: Write, smollm2_tokenizer: Tokenizer) -> None:
    path = write(
        {"prompt": "The capital of France is", "completion": " Paris.", "source": "an atlas"},
        {"prompt": "Say", "completion": " no.<|im_end|>"},
        {"prompt": "word " * 40, "completion": "end"},
        {"prompt": "Nothing", "completion": ""},
    )
    examples = read_examples(path, smollm2_tokenizer, max_length=16)
    assert [learnt(example, smollm2_tokenizer) for example in examples] == [
        ("The capital of France is", " Paris.<|im_end|>"),
        ("Say", " no.<|im_end|>"),
        (" word" * 13 + " ", "end<|im_end|>"),
    ]
    assert (examples.shortened, examples.left_out) == (1, 1)


def test_bos_comes_first_where_the_model_asks_for_it(
    tmp_path: Path, write: Write, bos_tokenizer: Tokenizer
) -> None:
    (tmp_path / "data.md").write_text("abcdefg")
    examples = read_examples(tmp_path / "data.md", bos_tokenizer, max_length=4)
    assert [bos_tokenizer.decode(example.tokens) for example in examples] == [
        "<bos>abc",
        "<bos>def",
        "<bos>g",
    ]
    path = write({"prompt": "abcdefg", "completion": "h"}, {"text": "ab"})
    examples = read_examples(path, bos_tokenizer, max_length=6)
    assert [learnt(example, bos_tokenizer) for example in examples] == [
        ("<bos>efg", "h<eos>"),
        ("<bos>", "ab<eos>"),
    ]


def test_conversations_without_an_answer_are_left_out(write: Write, smollm2_tokenizer: Tokenizer) -> None:
    question = {"role": "user", "content": "Hi"}
    path = write({"messages": [question]}, {"messages": [question, {"role": "assistant", "content": "Ho"}]})
    examples = read_examples(path, smollm2_tokenizer)
    assert [learnt(example, smollm2_tokenizer)[1] for example in examples] == ["Ho<|im_end|>"]
    assert examples.left_out == 1


DEEP = "[" * 100_000
BAD_LINES = [
    ("{", r"line 2: not JSON: [^:]* \(column 2\)\."),
    ('{"text": "\xff"}', "line 2: not UTF-8 text"),
    (f'{{"text": {DEEP}', "line 2: the JSON is nested too deep"),
    ('"text"', "line 2: no object but a text"),
    ("17", "line 2: no object but a number"),
    ("{}", "line 2: has none of the keys messages, prompt, text"),
    ('{"text": null}', "line 2: text: is no text but null"),
    ('{"prompt": "a"}', "line 2: completion: is missing"),
    ('{"completion": "a"}', "line 2: prompt: is missing"),
    ('{"prompt": ["a"], "completion": "a"}', "line 2: prompt: is no text but a list"),
    ('{"messages": {}}', "line 2: messages: is an object, not a list"),
    ('{"messages": []}', "line 2: messages: is 0 messages"),
    ('{"messages": [true]}', r"line 2: messages\[0\]: is no object but a truth value"),
    ('{"messages": [{"content": ""}]}', r"line 2: messages\[0\].role: is missing"),
    ('{"messages": [{"role": "user"}]}', r"line 2: messages\[0\].content: is missing"),
]


@pytest.mark.parametrize(("line", "message"), BAD_LINES, ids=[message for _, message in BAD_LINES])
def test_a_bad_line_is_named(tmp_path: Path, smollm2_tokenizer: Tokenizer, line: str, message: str) -> None:
    path = tmp_path / "data.jsonl"
    path.write_bytes(b'{"text": "sound"}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(FormatError, match=f"data.jsonl: {message}") as caught:
        read_examples(path, smollm2_tokenizer)
    assert caught.value.remedy


@pytest.mark.parametrize(("content", "kind"), [(None, "null"), ([{"type": "text", "text": "a"}], "a list")])
def test_contents_that_a_template_does_not_take_are_named(
    write: Write, smollm2_tokenizer: Tokenizer, content: Any, kind: str
) -> None:
    messages = [{"role": "user", "content": "a"}, {"role": "assistant", "content": content}]
    with pytest.raises(FormatError, match=rf"line 1: messages\[1\]\.content: is no text but {kind}"):
        read_examples(write({"messages": messages}), smollm2_tokenizer)


def test_text_that_is_not_utf_8_is_refused(tmp_path: Path, smollm2_tokenizer: Tokenizer) -> None:
    (tmp_path / "data.txt").write_bytes(b"One\nTw\xff\n")
    with pytest.raises(FormatError, match=r"line 2: not UTF-8 text \(byte 6 of the file\)"):
        read_examples(tmp_path / "data.txt", smollm2_tokenizer)


def test_what_is_too_large_is_refused(
    write: Write, smollm2_tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write({"text": "a" * 100})
    monkeypatch.setattr(records, "LINE_LIMIT", 100)
    with pytest.raises(FormatError, match="line 1: the line is longer"):
        read_examples(path, smollm2_tokenizer)
    monkeypatch.setattr(records, "FILE_LIMIT", 100)
    with pytest.raises(FormatError, match="larger than"):
        read_examples(path, smollm2_tokenizer)


def test_a_file_with_nothing_to_learn_is_refused(
    tmp_path: Path, write: Write, smollm2_tokenizer: Tokenizer
) -> None:
    with pytest.raises(FormatError, match="nothing to learn"):
        read_examples(write({"text": ""}), smollm2_tokenizer)
    (tmp_path / "data.txt").write_text("a")
    with pytest.raises(FormatError, match="nothing to learn"):
        read_examples(tmp_path / "data.txt", smollm2_tokenizer)
    with pytest.raises(FormatError, match="does not exist"):
        read_examples(tmp_path / "missing.txt", smollm2_tokenizer)
    with pytest.raises(StudioError, match="too short"):
        read_examples(tmp_path / "data.txt", smollm2_tokenizer, max_length=1)


def test_a_model_without_a_template_takes_no_conversations(write: Write, bos_tokenizer: Tokenizer) -> None:
    messages: list[Any] = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]
    with pytest.raises(UnsupportedError, match="line 1: messages: the model has no chat template"):
        read_examples(write({"messages": messages}), bos_tokenizer)


def test_reading_can_be_cancelled(write: Write, smollm2_tokenizer: Tokenizer) -> None:
    answers = iter([False, True])
    with pytest.raises(CancelledError):
        read_examples(write({"text": "a"}, {"text": "b"}), smollm2_tokenizer, cancelled=lambda: next(answers))
