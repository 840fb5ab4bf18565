"""Character-level BPE, as in Gemma 4: characters merge by rank; byte tokens stand in for unknown ones.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", section 3.2.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import tokenizers
from tokenizers import Regex, pre_tokenizers

from studio.engine.tokenizer.merges import read_merges
from studio.engine.tokenizer.score_merging import SPACE

if TYPE_CHECKING:
    from studio.engine.tokenizer.fields import Fields
    from studio.engine.tokenizer.vocabulary import Vocabulary


class CharacterLevelBpe:
    """Cuts text into tokens by rank, line by line, and turns tokens into bytes.

    Parameters
    ----------
    fields
        The metadata with the merges. Raises `FormatError` where a merge is not sound.
    vocabulary
        The tokens.
    """

    def __init__(self, fields: Fields, vocabulary: Vocabulary) -> None:
        self._tokenizer = tokenizers.Tokenizer(read_merges(fields, vocabulary, byte_fallback=True))
        self._tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"\n+"), "isolated")

    def segment(self, text: str) -> list[int]:
        """Cut text into tokens."""
        return self._tokenizer.encode(text.replace(" ", SPACE), add_special_tokens=False).ids

    def to_bytes(self, token_text: str) -> bytes:
        """Turn the text of a token, as the vocabulary writes it, into the bytes it stands for."""
        return token_text.replace(SPACE, " ").encode()
