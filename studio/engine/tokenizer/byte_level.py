"""Byte-level BPE: text becomes UTF-8 bytes, each written as a printable character, and pairs merge by rank.

Source: Radford et al. 2019 (GPT-2), "Language Models are Unsupervised Multitask Learners", section 2.2.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import tokenizers
from tokenizers import Regex, pre_tokenizers

from studio.engine.tokenizer.merges import read_merges
from studio.errors import EngineError

if TYPE_CHECKING:
    from studio.engine.tokenizer.fields import Fields
    from studio.engine.tokenizer.pre_tokenizers import PreTokenizer
    from studio.engine.tokenizer.vocabulary import Vocabulary

LONGEST_RUN = 2**20  # the regex engine gives up, by a panic, after ten million steps back
_TOO_LONG_RUN = re.compile(rf"(?<!\s)\s{{{LONGEST_RUN}}}")


def _printable_bytes() -> dict[str, int]:
    """Map the characters that stand for bytes to those bytes: printable ones stand for themselves."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    return {chr(byte): byte for byte in plain} | {chr(256 + n): byte for n, byte in enumerate(others)}


BYTE_OF_CHARACTER = _printable_bytes()


class ByteLevelBpe:
    """Cuts text into tokens by rank, and turns tokens into bytes.

    Parameters
    ----------
    fields
        The metadata with the merges. Raises `FormatError` where a merge is not sound.
    vocabulary
        The tokens.
    pre_tokenizer
        How text is cut into words first.
    """

    def __init__(self, fields: Fields, vocabulary: Vocabulary, pre_tokenizer: PreTokenizer) -> None:
        model = read_merges(fields, vocabulary, ignore_merges=pre_tokenizer.ignore_merges)
        self._tokenizer = tokenizers.Tokenizer(model)
        self._tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [word_splitter(pre_tokenizer), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
        )

    def segment(self, text: str) -> list[int]:
        """Cut text into tokens. Raises `EngineError` for `LONGEST_RUN` spaces in a row."""
        if len(text) > LONGEST_RUN and _TOO_LONG_RUN.search(text):
            raise EngineError(f"the text has {LONGEST_RUN} spaces or more in a row")
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def to_bytes(self, token_text: str) -> bytes:
        """Turn the text of a token, as the vocabulary writes it, into the bytes it stands for."""
        try:
            return bytes(BYTE_OF_CHARACTER[character] for character in token_text)
        except KeyError:  # not written in byte characters: the text stands for itself
            return token_text.encode()


def word_splitter(pre_tokenizer: PreTokenizer) -> pre_tokenizers.PreTokenizer:
    """Make what cuts text into words."""
    return pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(regex), "isolated") for regex in pre_tokenizer.regexes]
    )
