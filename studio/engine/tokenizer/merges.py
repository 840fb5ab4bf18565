"""The merges of a BPE vocabulary: which two neighbours become one token, the first of the list first."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import models

if TYPE_CHECKING:
    from studio.engine.tokenizer.fields import Fields
    from studio.engine.tokenizer.vocabulary import Vocabulary

MERGES = "tokenizer.ggml.merges"


def read_merges(
    fields: Fields, vocabulary: Vocabulary, *, ignore_merges: bool = False, byte_fallback: bool = False
) -> models.BPE:
    """Read what merges words.

    Parameters
    ----------
    fields
        The metadata with the merges. Raises `FormatError` where a merge is not sound.
    vocabulary
        The tokens.
    ignore_merges
        Take a word that is a token as a whole as it is, without merging.
    byte_fallback
        Write a character that is no token in byte tokens such as ``<0x0A>``.
    """
    merges = []
    for rank, merge in enumerate(fields.texts(MERGES)):
        left, _, right = merge.partition(" ")
        if not left or not right or " " in right:
            raise fields.error(MERGES, f"merge {rank} is {merge[:40]!r}, not two tokens")
        merges.append((left, right))
    try:
        return models.BPE(vocabulary.ids, merges, ignore_merges=ignore_merges, byte_fallback=byte_fallback)
    except Exception as error:  # the library raises bare `Exception` for a merge of a missing token
        raise fields.error(MERGES, f"do not fit the vocabulary: {error}") from error
