"""Chat templates: what honest ones need, and what hostile ones may not do."""

from __future__ import annotations

import gc
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from studio.engine.tokenizer import Tokenizer, chat_process, tokenizer_from_metadata
from studio.engine.tokenizer.chat import SOURCE_LIMIT, ChatTemplate
from studio.errors import FormatError, UnsupportedError

if TYPE_CHECKING:
    from studio.contracts import MetadataValue

HELLO = [{"role": "user", "content": "Hello"}]


def render(source: str, messages: list[dict[str, str]] = HELLO) -> str:
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>").render(messages)


def test_the_template_of_a_real_model(smollm2_tokenizer: Tokenizer) -> None:
    assert smollm2_tokenizer.has_chat_template
    assert smollm2_tokenizer.render_chat([{"role": "system", "content": "Be brief."}, *HELLO]) == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHello<|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_chat_as_tokens(smollm2_tokenizer: Tokenizer) -> None:
    tokens = smollm2_tokenizer.encode_chat(HELLO, add_generation_prompt=False)
    assert [smollm2_tokenizer.piece(token) for token in tokens][-6:] == [
        *["<|im_start|>", "user", "\n", "Hello", "<|im_end|>", "\n"]
    ]


@pytest.mark.parametrize("source", ["{{ bos_token }}hello", "hello"])
def test_bos_comes_once_whether_the_template_writes_it_or_not(
    byte_level: dict[str, MetadataValue], source: str
) -> None:
    byte_level |= {"tokenizer.ggml.add_bos_token": True, "tokenizer.chat_template": source}
    tokenizer = tokenizer_from_metadata(byte_level)
    assert tokenizer.decode(tokenizer.encode_chat(HELLO)) == "<|begin|>hello"


def test_what_templates_expect_to_find() -> None:
    source = """
    {%- for message in messages %}
        {% if message.content == "stop" %}
            {% break %}
        {% endif %}
        {% generation %}
    {{ bos_token }}{{ message | tojson }}{{ eos_token }}
        {% endgeneration %}
    {% endfor %}
    {%- if tools is none and add_generation_prompt %}{{ strftime_now("%Y") }}{% endif %}"""
    messages = [{"role": "user", "content": "<é>"}, {"role": "user", "content": "stop"}]
    assert [line.strip() for line in render(source, messages).splitlines()] == [
        """<s>{"role": "user", "content": "<é>"}</s>""",
        str(datetime.now().year),
    ]


def test_beginnings_of_a_conversation_are_written_at_once() -> None:
    template = ChatTemplate(
        "{% for message in messages %}{{ message.content }}.{% endfor %}"
        "{% if add_generation_prompt %}?{% endif %}"
    )
    messages = [{"role": "user", "content": content} for content in "abc"]
    assert template.render_prefixes(messages, [(1, True), (2, False), (3, False)]) == [
        "a.?",
        "a.b.",
        "a.b.c.",
    ]


def test_a_template_may_refuse_the_messages() -> None:
    with pytest.raises(UnsupportedError, match="roles must alternate"):
        render("{{ raise_exception('roles must alternate') }}")


def test_a_model_without_a_template_says_so(byte_level_tokenizer: Tokenizer) -> None:
    assert not byte_level_tokenizer.has_chat_template
    with pytest.raises(UnsupportedError, match="no chat template"):
        byte_level_tokenizer.render_chat(HELLO)


@pytest.mark.parametrize(
    "source",
    [
        "{% if %}",
        "{{ nothing.at.all }}",
        "{{ ().__class__.__base__.__subclasses__() }}",
        "{{ ''['format_map'] and '{0.__class__.__init__.__globals__}'.format(messages) }}",
        "{{ cycler.__init__.__globals__.os.popen('true').read() }}",
        "{{ raise_exception.__globals__.sys }}",
        "{{ messages.append(1) }}",
        "{% include '/etc/hostname' %}",
        "(" * 10_000 + "{{ " + "(" * 10_000,
        " " * (SOURCE_LIMIT + 1),
    ],
)
def test_a_faulty_or_escaping_template_is_an_error(source: str) -> None:
    with pytest.raises(FormatError, match="chat_template"):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro again() %}{{ again() }}{% endmacro %}{{ again() }}",
        "{{ 10 ** (10 ** 9) }}",
        "{{ 'a' * 10 ** 10 }}",
        "{{ 'a' | center(10 ** 10) }}",
        "{% for a in range(99999) %}{{ 'a' * 99999 }}{% endfor %}",
        "{% set n = namespace(x='a') %}{% for i in range(60) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
        "{% set n = namespace(x=0) %}{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    ],
)
def test_a_template_that_loops_or_grows_is_stopped(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat_process, "ANSWER_LIMIT_S", 1.0)
    template = ChatTemplate(source)
    for _ in range(2):  # the second time in a new process, where the first was killed
        with pytest.raises(FormatError, match="chat_template"):
            template.render(HELLO)


def test_the_process_ends_with_its_template() -> None:
    template = ChatTemplate("hello")
    template.render(HELLO)
    process = template._process._process
    assert process is not None and process.poll() is None
    del template
    gc.collect()
    assert process.poll() is not None
