"""Conversations, of which the answers are learnt."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from studio.contracts import Example
from studio.engine.tokenizer import Tokenizer
from studio.errors import FormatError, UnsupportedError
from studio.learning.chats import chat_example

MakeTokenizer = Callable[[str | None], Tokenizer]

MESSAGES = [
    {"role": "user", "content": "Hi"},
    {"role": "assistant", "content": "Ho \N{SNOWMAN}"},
    {"role": "user", "content": "You?"},
    {"role": "assistant", "content": "Fine."},
    {"role": "user", "content": "Bye"},
]

GEMMA = """{{ bos_token }}
{%- for message in messages %}
    {%- if (message.role == "user") != (loop.index0 % 2 == 0) %}
        {{- raise_exception("roles must alternate") }}
    {%- endif %}
    {{- "<start_of_turn>" ~ ("model" if message.role == "assistant" else message.role) ~ "\\n" }}
    {{- message.content | trim ~ "<end_of_turn>\\n" }}
{%- endfor %}
{%- if add_generation_prompt %}{{ "<start_of_turn>model\\n" }}{% endif %}"""


def stretches(example: Example, tokenizer: Tokenizer) -> list[tuple[bool, str]]:
    """Return the text in runs of what is predicted and what is not."""
    found: list[tuple[bool, list[int]]] = []
    for token, weight in zip(example.tokens, example.weights, strict=True):
        if not found or found[-1][0] != bool(weight):
            found.append((bool(weight), []))
        found[-1][1].append(token)
    return [(predicted, tokenizer.decode(tokens)) for predicted, tokens in found]


def test_the_answers_of_chatml_are_learnt_with_their_end(smollm2_tokenizer: Tokenizer) -> None:
    messages = [{"role": "system", "content": "Be brief."}, *MESSAGES]
    example = chat_example(messages, smollm2_tokenizer)
    assert stretches(example, smollm2_tokenizer) == [
        (
            False,
            "<|im_start|>system\nBe brief.<|im_end|>\n"
            "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n",
        ),
        (True, "Ho \N{SNOWMAN}<|im_end|>"),
        (False, "\n<|im_start|>user\nYou?<|im_end|>\n<|im_start|>assistant\n"),
        (True, "Fine.<|im_end|>"),
        (False, "\n"),
    ]
    whole = smollm2_tokenizer.encode_chat(messages[:-1], add_generation_prompt=False)
    assert list(example.tokens) == whole


def test_what_is_read_is_what_the_model_is_given_later(smollm2_tokenizer: Tokenizer) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "\n\nHo"}]
    example = chat_example(messages, smollm2_tokenizer)
    prompt = smollm2_tokenizer.encode_chat(messages[:1])
    assert list(example.tokens[: len(prompt)]) == prompt  # though "\n\n\n" would be one token
    assert example.weights[len(prompt) - 1 : len(prompt) + 1] == (0.0, 1.0)


def test_the_answers_of_gemma_are_learnt_with_their_end(with_template: MakeTokenizer) -> None:
    tokenizer = with_template(GEMMA)
    example = chat_example(MESSAGES, tokenizer)
    assert stretches(example, tokenizer) == [
        (False, "<bos><start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\n"),
        (True, "Ho \N{SNOWMAN}<end_of_turn>"),
        (False, "\n<start_of_turn>user\nYou?<end_of_turn>\n<start_of_turn>model\n"),
        (True, "Fine.<end_of_turn>"),
        (False, "\n"),
    ]
    assert list(example.tokens) == tokenizer.encode_chat(MESSAGES[:-1], add_generation_prompt=False)


def test_bos_comes_where_the_template_forgets_it(with_template: MakeTokenizer) -> None:
    tokenizer = with_template(GEMMA.removeprefix("{{ bos_token }}"))
    assert chat_example(MESSAGES, tokenizer) == chat_example(MESSAGES, with_template(GEMMA))


def test_an_answer_without_an_end_token_is_learnt_whole(with_template: MakeTokenizer) -> None:
    tokenizer = with_template(
        "{% for message in messages %}{{ message.role }}: {{ message.content }}. {% endfor %}"
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    assert stretches(chat_example(MESSAGES[:2], tokenizer), tokenizer) == [
        (False, "<bos>user: Hi. assistant: "),
        (True, "Ho \N{SNOWMAN}. "),
    ]


def test_a_template_that_changes_what_it_wrote_is_refused(with_template: MakeTokenizer) -> None:
    template = (
        "{% for message in messages %}{{ message.role }}: {% if loop.last or message.role == 'user' %}"
        "{{ message.content }}{% endif %};{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}"
    )
    with pytest.raises(UnsupportedError, match="otherwise once others follow"):
        chat_example(MESSAGES, with_template(template))
    assert chat_example(MESSAGES[:2], with_template(template)).weight


def test_a_template_that_refuses_or_fails_says_so(with_template: MakeTokenizer) -> None:
    with pytest.raises(UnsupportedError, match="roles must alternate"):
        chat_example([MESSAGES[0], *MESSAGES], with_template(GEMMA))
    with pytest.raises(FormatError, match="is faulty"):
        chat_example(MESSAGES, with_template("{{ nothing.at.all }}"))


def test_an_answer_that_comes_first_is_only_read(smollm2_tokenizer: Tokenizer) -> None:
    messages = [{"role": "assistant", "content": "Hello."}, *MESSAGES[:2]]
    predicted = [
        text
        for learnt, text in stretches(chat_example(messages, smollm2_tokenizer), smollm2_tokenizer)
        if learnt
    ]
    assert predicted == ["Ho \N{SNOWMAN}<|im_end|>"]
    assert not chat_example(messages[:2], smollm2_tokenizer).tokens
