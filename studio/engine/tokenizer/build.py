"""From the metadata of a model file to its tokenizer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.engine.tokenizer.byte_level import ByteLevelBpe
from studio.engine.tokenizer.character_level import CharacterLevelBpe
from studio.engine.tokenizer.chat import ChatTemplate
from studio.engine.tokenizer.fields import Fields
from studio.engine.tokenizer.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer
from studio.engine.tokenizer.score_merging import ScoreMerging
from studio.engine.tokenizer.special_tokens import find_swallowing_tokens
from studio.engine.tokenizer.tokenizer import Tokenizer
from studio.engine.tokenizer.vocabulary import TokenType, Vocabulary, read_vocabulary
from studio.errors import UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import MetadataValue

MODEL = "tokenizer.ggml.model"
PRE = "tokenizer.ggml.pre"
ADD_BOS = "tokenizer.ggml.add_bos_token"
ADD_EOS = "tokenizer.ggml.add_eos_token"
SPACE_PREFIX = "tokenizer.ggml.add_space_prefix"
CHAT_TEMPLATE = "tokenizer.chat_template"

GEMMA_4 = "gemma4"  # a tokenizer of its own in some files, a pre-tokenizer of gpt2 in others


def tokenizer_from_metadata(metadata: Mapping[str, MetadataValue], path: Path | None = None) -> Tokenizer:
    """Build the tokenizer that a GGUF file describes.

    Parameters
    ----------
    metadata
        All metadata of the file, by key.
    path
        The file, for error messages.

    Raises
    ------
    UnsupportedError
        The file has no tokenizer, or one the studio does not know; the error names it.
    FormatError
        The tokenizer's metadata is damaged; the error names the key.
    """
    fields = Fields(metadata, path)
    model = fields.text(MODEL)
    if model == GEMMA_4 or (model == "gpt2" and fields.text(PRE) == GEMMA_4):
        return _character_level(fields)
    if model == "gpt2":
        return _byte_level(fields)
    if model == "llama":
        return _sentence_piece(fields)
    message = "the file has no tokenizer" if model is None else f"unknown tokenizer {model!r}"
    raise UnsupportedError(
        message, path=path, where=MODEL, remedy=f"Known ones are gpt2, gemma4 and llama; {_WITHOUT}"
    )


_WITHOUT = "everything that needs no text works without it"


def _byte_level(fields: Fields) -> Tokenizer:
    pre_tokenizer = _pre_tokenizer(fields)
    vocabulary = read_vocabulary(fields)
    return Tokenizer(
        vocabulary,
        ByteLevelBpe(fields, vocabulary, pre_tokenizer),
        add_bos=_adds(fields, ADD_BOS, vocabulary.bos, default=pre_tokenizer.add_bos),
        add_eos=_adds(fields, ADD_EOS, vocabulary.eos, default=False),
        chat_template=_chat_template(fields, vocabulary),
    )


def _character_level(fields: Fields) -> Tokenizer:
    vocabulary = read_vocabulary(fields)
    return Tokenizer(
        vocabulary,
        CharacterLevelBpe(fields, vocabulary),
        add_bos=True,  # whatever the file says: the first Gemma 4 files say no, and the model needs it
        add_eos=_adds(fields, ADD_EOS, vocabulary.eos, default=False),
        chat_template=_chat_template(fields, vocabulary),
    )


def _sentence_piece(fields: Fields) -> Tokenizer:
    vocabulary = read_vocabulary(fields, bos=1, eos=2, unknown=0)
    special = vocabulary.of_type(TokenType.CONTROL, TokenType.USER_DEFINED, TokenType.UNKNOWN)
    return Tokenizer(
        vocabulary,
        ScoreMerging(fields, vocabulary),
        add_bos=_adds(fields, ADD_BOS, vocabulary.bos, default=True),
        add_eos=_adds(fields, ADD_EOS, vocabulary.eos, default=False),
        space_prefix=fields.flag(SPACE_PREFIX, default=True),
        swallowing=find_swallowing_tokens(fields, vocabulary.ids, special),
        chat_template=_chat_template(fields, vocabulary),
    )


def _pre_tokenizer(fields: Fields) -> PreTokenizer:
    name = fields.text(PRE)
    if name is not None and name in PRE_TOKENIZERS:
        return PRE_TOKENIZERS[name]
    message = "the file does not say how text is cut" if name is None else f"unknown pre-tokenizer {name!r}"
    raise UnsupportedError(
        message, path=fields.path, where=PRE, remedy=f"A guess would cut some texts wrongly; {_WITHOUT}"
    )


def _adds(fields: Fields, key: str, token: int | None, *, default: bool) -> bool:
    """Say whether BOS or EOS is added; the file must name the token if it asks for it."""
    if token is None and fields.flag(key, default=False):
        raise fields.error(key, f"asks for a token that {key.replace('add_', '')}_id does not name")
    return token is not None and fields.flag(key, default)


def _chat_template(fields: Fields, vocabulary: Vocabulary) -> ChatTemplate | None:
    source = fields.text(CHAT_TEMPLATE)
    if source is None:
        return None
    bos, eos = (
        "" if token is None else vocabulary.texts[token] for token in (vocabulary.bos, vocabulary.eos)
    )
    return ChatTemplate(source, bos_token=bos, eos_token=eos, path=fields.path)
