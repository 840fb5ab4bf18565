"""The tokens of a model: their texts, types, and the ids with a role."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.tokenizer.special_tokens import find_named_tokens

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.engine.tokenizer.fields import Fields

TOKENS = "tokenizer.ggml.tokens"
TOKEN_TYPE = "tokenizer.ggml.token_type"

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")


class TokenType(IntEnum):
    """The values of ``tokenizer.ggml.token_type``."""

    UNDEFINED = 0
    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of a model.

    Attributes
    ----------
    texts
        The text of each token as the file writes it.
    ids
        The id of each text.
    types
        The type of each token that is not a normal one, by id.
    bos, eos, unknown
        The ids of the tokens with these roles.
    ends
        The tokens that end a generation.
    """

    texts: list[str]
    ids: dict[str, int]
    types: Mapping[int, TokenType]
    bos: int | None
    eos: int | None
    unknown: int | None
    ends: frozenset[int]

    def __len__(self) -> int:
        """Count the tokens."""
        return len(self.texts)

    def type_of(self, token: int) -> TokenType:
        """Return the type of a token."""
        return self.types.get(token, TokenType.NORMAL)

    def of_type(self, *types: TokenType) -> list[int]:
        """List the tokens of these types (not the normal ones) in order of their ids."""
        return [token for token, its_type in self.types.items() if its_type in types]

    def byte_of(self, token: int) -> int:
        """Return the value of a byte token such as ``<0x0A>``."""
        match = _BYTE_TOKEN.fullmatch(self.texts[token])
        assert match is not None, "checked when the vocabulary was read"
        return int(match[1], 16)


def read_vocabulary(
    fields: Fields, *, bos: int | None = None, eos: int | None = None, unknown: int | None = None
) -> Vocabulary:
    """Read and check the vocabulary.

    Parameters
    ----------
    fields
        The metadata. Raises `FormatError` naming the key that is wrong.
    bos, eos, unknown
        The ids of these tokens where the file does not name them.
    """
    texts = fields.texts(TOKENS)
    if not texts:
        raise fields.error(TOKENS, "is empty")
    ids = _unique_ids(fields, texts)
    types = _read_types(fields, texts)
    bos = fields.token_id("tokenizer.ggml.bos_token_id", len(texts), bos)
    eos = fields.token_id("tokenizer.ggml.eos_token_id", len(texts), eos)
    unknown = fields.token_id("tokenizer.ggml.unknown_token_id", len(texts), unknown)
    named = find_named_tokens(fields, ids, len(texts), eos)
    types |= dict.fromkeys(named.control, TokenType.CONTROL)
    types |= dict.fromkeys(named.user_defined, TokenType.USER_DEFINED)
    for token in named.normal:
        types.pop(token, None)
    return Vocabulary(texts, ids, dict(sorted(types.items())), bos, eos, unknown, named.ends)


def _unique_ids(fields: Fields, texts: list[str]) -> dict[str, int]:
    ids = {text: token for token, text in enumerate(texts)}
    if len(ids) < len(texts):
        seen: dict[str, int] = {}
        for token, text in enumerate(texts):
            first = seen.setdefault(text, token)
            if first != token and text:
                raise fields.error(TOKENS, f"tokens {first} and {token} are both {text[:40]!r}")
    ids.pop("", None)  # empty tokens are placeholders that no text can match
    return ids


def _read_types(fields: Fields, texts: list[str]) -> dict[int, TokenType]:
    numbers = fields.numbers(TOKEN_TYPE, len(texts))
    if numbers is None:
        return {}
    if numbers.dtype.kind not in "iu":
        raise fields.error(TOKEN_TYPE, "should be an array of integers")
    if numbers.min() < TokenType.UNDEFINED or numbers.max() > TokenType.BYTE:
        raise fields.error(TOKEN_TYPE, f"should hold values from 0 to {TokenType.BYTE:d}")
    types = {int(token): TokenType(numbers[token]) for token in np.flatnonzero(numbers != TokenType.NORMAL)}
    for token, its_type in types.items():
        if its_type is TokenType.BYTE and not _BYTE_TOKEN.fullmatch(texts[token]):
            raise fields.error(TOKENS, f"token {token} is a byte, but its text is {texts[token][:40]!r}")
    return types
