"""Which tokens end a generation or steer a model, told by metadata and, where that is silent, by their names.

Source: the names are those that llama.cpp looks for (``llama-vocab.cpp``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from studio.engine.tokenizer.fields import Fields

END_KEYS = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")

END_NAMES = (
    "<|eot_id|>",
    "<|eom_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<|endoftext|>",
    "<|end_of_text|>",
    "<end_of_turn>",
    "<end_of_utterance>",
    "<turn|>",
    "</s>",
    "<eos>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "[e~[",
    "<｜end▁of▁sentence｜>",
)

# Tokens of fill-in-the-middle: names that count where the file does not give the id.
INFILL_NAMES = {
    "tokenizer.ggml.fim_pre_token_id": (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<｜fim▁begin｜>",
        "<PRE>",
        "▁<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
    "tokenizer.ggml.fim_suf_token_id": (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<｜fim▁hole｜>",
        "<SUF>",
        "▁<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
    "tokenizer.ggml.fim_mid_token_id": (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<｜fim▁end｜>",
        "<MID>",
        "▁<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
    "tokenizer.ggml.fim_pad_token_id": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "tokenizer.ggml.fim_rep_token_id": (
        "<|fim_repo|>",
        "<|repo_name|>",
        "<fim-repo>",
        "<REPO>",
        "<reponame>",
    ),
    "tokenizer.ggml.fim_sep_token_id": ("<|file_sep|>",),
}

# The model has left its file when it writes one of these.
INFILL_END_KEYS = (
    "tokenizer.ggml.fim_pad_token_id",
    "tokenizer.ggml.fim_rep_token_id",
    "tokenizer.ggml.fim_sep_token_id",
)


def find_end_tokens(fields: Fields, ids: Mapping[str, int], vocabulary_size: int) -> frozenset[int]:
    """Find every token that ends a generation, beside EOS itself."""
    ends = _present(END_NAMES, ids)
    for key in (*END_KEYS, *INFILL_END_KEYS):
        token = fields.token_id(key, vocabulary_size)
        ends |= _present(INFILL_NAMES.get(key, ()), ids) if token is None else {token}
    return frozenset(ends)


def find_control_by_name(fields: Fields, ids: Mapping[str, int]) -> frozenset[int]:
    """Find the tokens that are control tokens by their name, whatever type a careless converter gave them."""
    named = _present(END_NAMES, ids)
    for key, names in INFILL_NAMES.items():
        if key not in fields:
            named |= _present(names, ids)
    return frozenset(named)


def _present(names: Iterable[str], ids: Mapping[str, int]) -> set[int]:
    return {ids[name] for name in names if name in ids}
