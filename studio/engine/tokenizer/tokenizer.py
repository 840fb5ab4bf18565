"""The tokenizer of a model: text to token ids and back."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from studio.engine.tokenizer.stream import StreamDecoder
from studio.engine.tokenizer.vocabulary import TokenType, Vocabulary
from studio.errors import EngineError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from studio.engine.tokenizer.chat import ChatTemplate


WHITE_SPACE = " \t\n\v\f\r"


class Segmenter(Protocol):
    """Cuts plain text into tokens: the part in which tokenizers differ."""

    def segment(self, text: str) -> list[int]:
        """Cut text into tokens."""

    def to_bytes(self, token_text: str) -> bytes:
        """Turn the text of a normal token, as the vocabulary writes it, into the bytes it stands for."""


class Tokenizer:
    """Text to token ids and back, as the model asks.

    Parameters
    ----------
    vocabulary
        The tokens.
    segmenter
        Cuts plain text into tokens.
    add_bos, add_eos
        Whether BOS comes first and EOS last.
    space_prefix
        Whether each stretch of plain text gets a space before it.
    swallowing
        The tokens that swallow the white space after them.
    chat_template
        How messages become a prompt, None where the model does not say.
    """

    def __init__(
        self,
        vocabulary: Vocabulary,
        segmenter: Segmenter,
        *,
        add_bos: bool = False,
        add_eos: bool = False,
        space_prefix: bool = False,
        swallowing: frozenset[int] = frozenset(),
        chat_template: ChatTemplate | None = None,
    ) -> None:
        self._vocabulary = vocabulary
        self._segmenter = segmenter
        self._before = [vocabulary.bos] if add_bos and vocabulary.bos is not None else []
        self._after = [vocabulary.eos] if add_eos and vocabulary.eos is not None else []
        self._space_prefix = space_prefix
        self._swallowing = swallowing
        self._chat_template = chat_template
        self._user_defined = frozenset(vocabulary.of_type(TokenType.USER_DEFINED))

    @property
    def vocabulary(self) -> Vocabulary:
        """The tokens."""
        return self._vocabulary

    @property
    def framing(self) -> tuple[list[int], list[int]]:
        """The tokens that come before and after every text: BOS and EOS where the model asks for them."""
        return self._before, self._after

    @property
    def vocabulary_size(self) -> int:
        """How many tokens there are."""
        return len(self._vocabulary)

    @property
    def end_tokens(self) -> frozenset[int]:
        """The tokens that end a generation."""
        return self._vocabulary.ends

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The control tokens and the unknown token: they steer the model and are no text."""
        return frozenset(self._vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN))

    @property
    def has_chat_template(self) -> bool:
        """Whether the model says how messages become a prompt."""
        return self._chat_template is not None

    def encode(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
        """Turn text into token ids.

        Parameters
        ----------
        text
            Any text; lone surrogates become U+FFFD.
        add_special
            Put BOS first and EOS last where the model asks for it.
        parse_special
            Read control tokens such as ``<|im_end|>`` as tokens. User-defined tokens match either way.
        """
        (tokens,) = self.encode_parts([text], parse_special=parse_special)
        return [*self._before, *tokens, *self._after] if add_special else tokens

    def encode_parts(self, parts: Sequence[str], *, parse_special: bool = True) -> list[list[int]]:
        """Turn the parts of one text into token ids, so that no token reaches from one part into the next.

        Where none would anyway, they are those of the whole text. BOS and EOS are not added.

        Parameters
        ----------
        parts
            As they follow one another.
        parse_special
            As of `encode`.
        """
        encoded: list[list[int]] = []
        last: str | int | None = None
        for part in parts:
            text, tokens = _well_formed(part), list[int]()
            for fragment in self._partition(
                text.lstrip(WHITE_SPACE) if last in self._swallowing else text, parse_special
            ):
                if isinstance(fragment, int):
                    tokens.append(fragment)
                else:
                    starts = self._space_prefix and not isinstance(last, str)
                    tokens += self._segmenter.segment(" " + fragment if starts else fragment)
                last = fragment
            encoded.append(tokens)
        return encoded

    def decode(self, ids: Iterable[int], *, skip_special: bool = False) -> str:
        """Turn token ids into text.

        Parameters
        ----------
        ids
            The tokens. Bytes that are not UTF-8 become U+FFFD.
        skip_special
            Leave control tokens out.
        """
        stream = self.stream(skip_special=skip_special)
        return "".join([stream.feed(token) for token in ids]) + stream.finish()

    def piece(self, token: int) -> str:
        r"""Return the text of one token to show; bytes that are no character by themselves read ``\xe2``."""
        return self._bytes_of(token).decode(errors="backslashreplace")

    def stream(self, after: Iterable[int] = (), *, skip_special: bool = False) -> StreamDecoder:
        """Start to decode tokens one by one.

        Parameters
        ----------
        after
            The tokens that come before and are out already, such as the prompt that a generation continues.
        skip_special
            Leave control tokens out.
        """
        stream = StreamDecoder(
            self._bytes_of,
            self._stands_apart,
            strip_space=self._space_prefix,
            skip=self.special_ids if skip_special else frozenset(),
        )
        for token in after:
            stream.feed(token)
        return stream

    def render_chat(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> str:
        """Write messages as the model's chat template wants them.

        Parameters
        ----------
        messages
            Each has a ``role`` (system, user, assistant) and its ``content``.
        add_generation_prompt
            End with the opening of the assistant's next message.

        Raises
        ------
        UnsupportedError
            The model has no chat template, or its template refuses these messages.
        FormatError
            The template is faulty, or ran past its limits.
        """
        (text,) = self.render_chat_prefixes(messages, [(len(messages), add_generation_prompt)])
        return text

    def render_chat_prefixes(
        self, messages: Sequence[Mapping[str, Any]], prefixes: Sequence[tuple[int, bool]]
    ) -> list[str]:
        """Write several beginnings of a conversation at once: see `ChatTemplate.render_prefixes`."""
        if self._chat_template is None:
            raise UnsupportedError("the model has no chat template", remedy="Use a plain prompt")
        return self._chat_template.render_prefixes(messages, prefixes)

    def encode_chat(
        self, messages: Sequence[Mapping[str, Any]], *, add_generation_prompt: bool = True
    ) -> list[int]:
        """Turn messages into token ids, with one BOS where the model asks for it, by its template or not."""
        text = self.render_chat(messages, add_generation_prompt=add_generation_prompt)
        tokens = self.encode(text, add_special=False)
        return tokens if tokens[:1] == self._before else [*self._before, *tokens]

    @cached_property
    def _matched_in_text(self) -> list[int]:
        """Tokens that are found in text as they are, the longest first."""
        texts = self._vocabulary.texts
        matched = [*self.special_ids, *self._user_defined]
        return sorted(
            (token for token in matched if texts[token]),
            key=lambda token: (-len(texts[token].encode()), token),
        )

    def _partition(self, text: str, parse_special: bool) -> list[str | int]:
        """Cut text at the tokens that are found in it as they are."""
        fragments: list[str | int] = [text] if text else []
        for token in self._matched_in_text:
            its_text = self._vocabulary.texts[token]
            if its_text in text and (parse_special or token in self._user_defined):
                swallows = token in self._swallowing
                fragments = [
                    part for fragment in fragments for part in _cut(fragment, its_text, token, swallows)
                ]
        return fragments

    def _bytes_of(self, token: int) -> bytes:
        if not 0 <= token < len(self._vocabulary):
            raise EngineError(f"there is no token {token}: the vocabulary has {len(self._vocabulary)}")
        text = self._vocabulary.texts[token]
        its_type = self._vocabulary.type_of(token)
        if its_type is TokenType.BYTE:
            return bytes([self._vocabulary.byte_of(token)])
        if self._stands_apart(token):
            return text.encode()
        return self._segmenter.to_bytes(text)

    def _stands_apart(self, token: int) -> bool:
        return token in self.special_ids or token in self._user_defined


def _cut(fragment: str | int, text: str, token: int, swallows: bool) -> list[str | int]:
    """Put `token` wherever its text stands in a fragment, and drop the white space that it swallows."""
    if isinstance(fragment, int):
        return [fragment]
    first, *others = fragment.split(text)
    parts: list[str | int] = [first] if first else []
    for stretch in others:
        rest = stretch.lstrip(WHITE_SPACE) if swallows else stretch
        parts += [token, rest] if rest else [token]
    return parts


def _well_formed(text: str) -> str:
    """Replace lone surrogates, which UTF-8 cannot express, by U+FFFD."""
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
