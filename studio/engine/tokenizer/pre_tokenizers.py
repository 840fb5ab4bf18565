r"""The values of ``tokenizer.ggml.pre``: how byte-level BPE cuts text into words before it merges.

To add one: name it in `PRE_TOKENIZERS`, with the regexes of the model's own ``tokenizer.json`` in the order
they apply, and check it against vectors of that model. A wrong regex goes unnoticed in most texts, so an
unknown name is refused and never guessed.

Sources: the regexes are those of the models' ``tokenizer.json``; which name means which, and which models put
BOS first or look words up whole, is as in llama.cpp's ``llama-vocab.cpp``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"


def _cl100k(letters: str, numbers: str, symbols: str) -> str:
    """Make the regex of GPT-4's tokenizer, on which the later models vary."""
    return (
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
        rf"|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{numbers}| ?{symbols}+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


@dataclass(frozen=True)
class PreTokenizer:
    """How one family of byte-level BPE vocabularies prepares text.

    Attributes
    ----------
    regexes
        Applied one after the other; each cuts every word so far at its matches.
    ignore_merges
        A word that is a token as a whole is taken as it is, without merging.
    add_bos
        Whether BOS comes first where the file does not say.
    """

    regexes: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False


GPT_2 = PreTokenizer((_GPT_2,))
DIGITS_APART = PreTokenizer((r"\p{N}", _GPT_2))
LLAMA_3 = PreTokenizer(
    (_cl100k(r"\p{L}", r"\p{N}{1,3}", r"[^\s\p{L}\p{N}]"),), ignore_merges=True, add_bos=True
)
QWEN_2 = PreTokenizer((_cl100k(r"\p{L}", r"\p{N}", r"[^\s\p{L}\p{N}]"),))
QWEN_3_5 = PreTokenizer((_cl100k(r"[\p{L}\p{M}]", r"\p{N}", r"[^\s\p{L}\p{M}\p{N}]"),))

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    **dict.fromkeys(
        (
            *("gpt-2", "phi-2", "mpt", "olmo", "jais", "trillion", "granite-docling", "exaone4", "gigachat"),
            *("a.x-4.0", "mellum", "jina-es", "jina-de"),
        ),
        GPT_2,
    ),
    **dict.fromkeys(
        ("smollm", "starcoder", "refact", "command-r", "codeshell", "exaone", "minerva-7b", "mellum2"),
        DIGITS_APART,
    ),
    **dict.fromkeys(
        (
            *("llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2"),
            "jina-v5-nano",
        ),
        LLAMA_3,
    ),
    **dict.fromkeys(
        ("dbrx", "smaug-bpe", "chatglm-bpe"), replace(LLAMA_3, ignore_merges=False, add_bos=False)
    ),
    **dict.fromkeys(("glm4", "glm5"), replace(LLAMA_3, add_bos=False)),
    **dict.fromkeys(
        ("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "grok-2"), QWEN_2
    ),
    "qwen35": QWEN_3_5,
}
