"""Which tokens end a generation or steer a model, told by metadata and, where that is silent, by their names.

Source: the names are those that llama.cpp looks for (``llama-vocab.cpp``).
"""

from __future__ import annotations

from dataclasses import dataclass
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
    "<|tool_response>",
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


# Marks of gpt-oss that are text to show, even if the file calls them control tokens.
SHOWN_NAMES = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")

# "<|end|>" only ends a part of the answer in a vocabulary that has a token of each of these rows.
END_OF_PART = "<|end|>"
ENDS_OF_ANSWERS = (("<|return|>", "<|flush|>"), ("<|call|>", "<|calls|>"))

# "</s>" is ordinary text, a mark of HTML, in a vocabulary with this token.
HTML_MARK = "</s>"
WITH_HTML_MARKS = "<|tool_response>"

# Phi-3's tokens swallow the white space after them, all but these.
PHI_3 = ("phi-3", "phi3")
NOT_SWALLOWING = ("<unk>", "<s>", "<|endoftext|>")


@dataclass(frozen=True)
class NamedTokens:
    """What the names of tokens say about them, whatever types a careless converter gave them.

    Attributes
    ----------
    ends
        The tokens that end a generation.
    control, user_defined, normal
        The tokens whose type this is.
    """

    ends: frozenset[int]
    control: frozenset[int]
    user_defined: frozenset[int]
    normal: frozenset[int]


def find_named_tokens(
    fields: Fields, ids: Mapping[str, int], vocabulary_size: int, eos: int | None
) -> NamedTokens:
    """Find the tokens that end a generation, and those whose type is known by their names."""
    ends = _present(END_NAMES, ids)
    if eos is not None:
        ends.add(eos)
    for key in (*END_KEYS, *INFILL_END_KEYS):
        token = fields.token_id(key, vocabulary_size)
        ends |= _present(INFILL_NAMES.get(key, ()), ids) if token is None else {token}
    control = _present(END_NAMES, ids)
    for key, names in INFILL_NAMES.items():
        if key not in fields:
            control |= _present(names, ids)
    user_defined = _present(SHOWN_NAMES, ids)
    ends_no_answer = set()
    if all(_present(row, ids) for row in ENDS_OF_ANSWERS):
        ends_no_answer = _present([END_OF_PART], ids)
        user_defined |= ends_no_answer
    normal = _present([HTML_MARK], ids) if WITH_HTML_MARKS in ids else set()
    return NamedTokens(
        ends=frozenset(ends - ends_no_answer - normal),
        control=frozenset(control - user_defined - normal),
        user_defined=frozenset(user_defined),
        normal=frozenset(normal),
    )


def find_swallowing_tokens(fields: Fields, ids: Mapping[str, int], special: Iterable[int]) -> frozenset[int]:
    """Find the special tokens that swallow the white space after them: only the model's name tells."""
    name = (fields.text("general.name") or "").lower()
    if not any(phi_3 in name for phi_3 in PHI_3):
        return frozenset()
    return frozenset({*special, *_present([HTML_MARK], ids)} - _present(NOT_SWALLOWING, ids))


def _present(names: Iterable[str], ids: Mapping[str, int]) -> set[int]:
    return {ids[name] for name in names if name in ids}
