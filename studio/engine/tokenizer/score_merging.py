"""SentencePiece vocabularies: characters merge pair by pair, the pair that forms the best-scored token first.

Source: Kudo and Richardson 2018, "SentencePiece", section 3.1 (BPE with a priority queue). Byte tokens stand
in for characters that are no token.
"""

from __future__ import annotations

import re
from functools import lru_cache
from heapq import heapify, heappop, heappush
from typing import TYPE_CHECKING

import numpy as np

from studio.engine.tokenizer.vocabulary import TOKENS, TokenType, Vocabulary

if TYPE_CHECKING:
    from studio.engine.tokenizer.fields import Fields

SCORES = "tokenizer.ggml.scores"
SPACE = "▁"  # U+2581 stands for a space

_WORD_CACHE = 20_000


class ScoreMerging:
    """Cuts text into tokens by score, and turns tokens into bytes.

    Parameters
    ----------
    fields
        The metadata with the scores. Raises `FormatError` where they are not sound.
    vocabulary
        The tokens.
    """

    def __init__(self, fields: Fields, vocabulary: Vocabulary) -> None:
        scores = fields.numbers(SCORES, len(vocabulary))
        if scores is None:
            raise fields.error(SCORES, "is missing")
        if np.isnan(scores).any():
            raise fields.error(SCORES, f"token {int(np.isnan(scores).argmax())} has no score (NaN)")
        # Control tokens never come out of plain text, bytes only stand in.
        reserved = vocabulary.of_type(TokenType.CONTROL, TokenType.UNKNOWN, TokenType.BYTE)
        self._ids = dict(vocabulary.ids)
        for token in reserved:
            self._ids.pop(vocabulary.texts[token], None)
        self._scores: list[float] = scores.tolist()
        self._fallback = self._byte_tokens(fields, vocabulary)
        self._words = self._word_regex()
        self._merge_cached = lru_cache(_WORD_CACHE)(self._merge)

    def segment(self, text: str) -> list[int]:
        """Cut text into tokens."""
        tokens: list[int] = []
        for word in self._words.split(text.replace(" ", SPACE)):
            tokens += self._merge_cached(word)
        return tokens

    def to_bytes(self, token_text: str) -> bytes:
        """Turn the text of a token, as the vocabulary writes it, into the bytes it stands for."""
        return token_text.replace(SPACE, " ").encode()

    def _byte_tokens(self, fields: Fields, vocabulary: Vocabulary) -> list[int]:
        """Find the token that stands in for each byte ``[256]``."""
        bytes_to_tokens = {vocabulary.byte_of(token): token for token in vocabulary.of_type(TokenType.BYTE)}
        fallback = [bytes_to_tokens.get(byte, vocabulary.unknown) for byte in range(256)]
        found = [token for token in fallback if token is not None]
        if len(found) < 256:
            raise fields.error(TOKENS, "has neither all 256 byte tokens nor an unknown token")
        return found

    def _word_regex(self) -> re.Pattern[str]:
        """Find where text may be cut with no effect: before a space that no token joins to what precedes it.

        Words then merge independently, and a cache can serve the frequent ones.
        """
        joined = {SPACE}
        for text in self._ids:
            place = text.find(SPACE, 1)
            while place > 0:
                joined.add(text[place - 1])
                place = text.find(SPACE, place + 1)
        characters = "".join(re.escape(character) for character in sorted(joined))
        return re.compile(f"(?<=[^{characters}])(?={SPACE})")

    def _merge(self, word: str) -> tuple[int, ...]:
        """Merge the characters of a word for as long as two neighbours form a token.

        Symbols are spans of the word, known by where they start; a heap entry whose spans grew is stale.
        """
        ids, scores = self._ids, self._scores
        size = len(word)
        end = list(range(1, size + 1))  # end of the symbol at each start; 0: swallowed by its left neighbour
        previous = list(range(-1, size - 1))  # start of the left neighbour

        def candidate(left: int, right: int) -> tuple[float, int, int, int] | None:
            token = ids.get(word[left : end[right]])
            return None if token is None else (-scores[token], left, right, end[right])

        heap = [entry for left in range(size - 1) if (entry := candidate(left, left + 1))]
        heapify(heap)
        while heap:
            _, left, right, stop = heappop(heap)
            if end[left] != right or end[right] != stop:
                continue
            end[left], end[right] = stop, 0
            if stop < size:
                previous[stop] = left
                if entry := candidate(left, stop):
                    heappush(heap, entry)
            if left > 0 and (entry := candidate(previous[left], left)):
                heappush(heap, entry)

        tokens: list[int] = []
        start = 0
        while start < size:
            symbol = word[start : end[start]]
            token = ids.get(symbol)
            tokens += [token] if token is not None else [self._fallback[byte] for byte in symbol.encode()]
            start = end[start]
        return tuple(tokens)
