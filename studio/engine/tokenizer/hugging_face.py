"""The tokenizer of a GGUF model as the files that Hugging Face's libraries read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import tokenizers
from tokenizers import AddedToken, decoders, pre_tokenizers, processors

from studio.engine.tokenizer.build import CHAT_TEMPLATE, MODEL, PRE, tokenizer_from_metadata
from studio.engine.tokenizer.byte_level import word_splitter
from studio.engine.tokenizer.fields import Fields
from studio.engine.tokenizer.merges import read_merges
from studio.engine.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from studio.engine.tokenizer.vocabulary import TokenType
from studio.errors import StudioError

if TYPE_CHECKING:
    from studio.contracts import BaseModel
    from studio.engine.tokenizer.tokenizer import Tokenizer

MISSING = "No tokenizer files were written; take those of the original model"


def tokenizer_files(base: BaseModel) -> tuple[dict[str, str], list[str]]:
    """Return the tokenizer's files by name, and what the user should know of them.

    A byte-level BPE says all there is to know of it, so its files give the tokens that llama.cpp gives. Of a
    SentencePiece model the file keeps pieces and scores alone, and not how text is normalised: for that one,
    and for any other, there are no files but a note that says so.
    """
    if base.metadata.get(MODEL) != "gpt2" or base.metadata.get(PRE) not in PRE_TOKENIZERS:
        return {}, [f"{MISSING}: a tokenizer of the kind {base.metadata.get(MODEL)!r} cannot be told whole"]
    try:
        tokenizer = tokenizer_from_metadata(base.metadata, base.path)
        made = _byte_level(base, tokenizer)
    except StudioError as error:
        return {}, [f"{MISSING}: {error.message}"]
    config = json.dumps(_configuration(base, tokenizer), indent=2, ensure_ascii=False) + "\n"
    return {"tokenizer.json": made.to_str(pretty=False), "tokenizer_config.json": config}, []


def _byte_level(base: BaseModel, tokenizer: Tokenizer) -> tokenizers.Tokenizer:
    fields, vocabulary = Fields(base.metadata, base.path), tokenizer.vocabulary
    pre = PRE_TOKENIZERS[str(base.metadata[PRE])]
    made = tokenizers.Tokenizer(read_merges(fields, vocabulary, ignore_merges=pre.ignore_merges))
    made.pre_tokenizer = pre_tokenizers.Sequence(
        [word_splitter(pre), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    made.decoder = decoders.ByteLevel()
    for kind, special in ((TokenType.CONTROL, True), (TokenType.USER_DEFINED, False)):
        own = [vocabulary.texts[token] for token in vocabulary.of_type(kind)]
        made.add_tokens([AddedToken(text, special=special, normalized=False) for text in own])
    before, after = tokenizer.framing
    if before or after:
        texts = {vocabulary.texts[token]: token for token in (*before, *after)}
        names = [*(vocabulary.texts[token] for token in before), "$A"]
        names += [vocabulary.texts[token] for token in after]
        made.post_processor = processors.TemplateProcessing(
            single=names, pair=[*names, "$B"], special_tokens=list(texts.items())
        )
    return made


def _configuration(base: BaseModel, tokenizer: Tokenizer) -> dict[str, Any]:
    vocabulary = tokenizer.vocabulary
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "add_bos_token": bool(tokenizer.framing[0]),
        "add_eos_token": bool(tokenizer.framing[1]),
    }
    roles = {"bos_token": vocabulary.bos, "eos_token": vocabulary.eos, "unk_token": vocabulary.unknown}
    config |= {role: vocabulary.texts[token] for role, token in roles.items() if token is not None}
    template = base.metadata.get(CHAT_TEMPLATE)
    if isinstance(template, str):
        config["chat_template"] = template
    return config
