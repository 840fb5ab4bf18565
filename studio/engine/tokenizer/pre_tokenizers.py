r"""The values of ``tokenizer.ggml.pre``: how byte-level BPE cuts text into words before it merges.

To add one: name it in `PRE_TOKENIZERS`, with the regexes of the model's own ``tokenizer.json`` in the order
they apply, and check it against vectors of that model. A wrong regex goes unnoticed in most texts, so an
unknown name is refused and never guessed.

Sources: the regexes are those of the models' ``tokenizer.json``; which name means which, and which models
put BOS first or look words up whole, is as in llama.cpp's ``llama-vocab.cpp``. Where llama.cpp approximates a
regex (marks and capitals in GPT-4o's and Tekken's, wide spaces in DeepSeek's), the model's own stands here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

_GPT_2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"


def _cl100k(
    letters: str = r"\p{L}",
    numbers: str = r"\p{N}",
    symbols: str = r"[^\s\p{L}\p{N}]",
    spaces: str = r"\s+(?!\S)|\s+",
) -> str:
    """Make the regex of GPT-4's tokenizer, on which the later models vary."""
    return (
        rf"{_CONTRACTIONS}|[^\r\n\p{{L}}\p{{N}}]?{letters}+|{numbers}| ?{symbols}+[\r\n]*|\s*[\r\n]+|{spaces}"
    )


def _o200k(contractions: str, numbers: str) -> str:
    """Make the regex of GPT-4o's tokenizer, which also cuts where small letters end and capitals begin."""
    upper, lower = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
    return (
        rf"[^\r\n\p{{L}}\p{{N}}]?{upper}*{lower}+{contractions}|[^\r\n\p{{L}}\p{{N}}]?{upper}+{lower}*{contractions}"
        rf"|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


_CASED_LETTERS = (  # every script that has capitals, as DeepSeek lists them
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅ"
    "Ὀ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯ"
    "ꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_DEEPSEEK_3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_BLOOM = r" ?[^(\s|[.,!?…。，、।۔،])]+"


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
FALCON = PreTokenizer((r"[\p{P}$+<=>^~|`]+", _GPT_2, r"[0-9][0-9][0-9]"))
LLAMA_3 = PreTokenizer((_cl100k(numbers=r"\p{N}{1,3}"),), ignore_merges=True, add_bos=True)
JAIS_2 = PreTokenizer(
    (
        _cl100k(
            numbers=r"\p{N}{1,3}",
            spaces="|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4, "1,2"))
            + r"|\s{1}",
        ),
    )
)
MINICPM_5 = PreTokenizer((r"\p{N}{1,3}", _cl100k(numbers=r"\p{N}+")), ignore_merges=True)
QWEN_2 = PreTokenizer((_cl100k(),))
QWEN_3_5 = PreTokenizer((_cl100k(letters=r"[\p{L}\p{M}]", symbols=r"[^\s\p{L}\p{M}\p{N}]"),))
GPT_4O = PreTokenizer((_o200k(_CONTRACTIONS + "?", r"\p{N}{1,3}"),))
TEKKEN = PreTokenizer((_o200k("", r"\p{N}"),), ignore_merges=True, add_bos=True)
DEEPSEEK_LLM = PreTokenizer(
    (
        r"[\r\n]",
        rf"\s?[{_CASED_LETTERS}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"(?<!\s)\s+$",  # the lookbehind changes no match, it saves trying every start within a run
        "[一-龥ࠀ-一가-퟿]+",
        r"\p{N}",
    )
)
DEEPSEEK_CODER = PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"))
DEEPSEEK_3 = PreTokenizer((r"\p{N}{1,3}", "[一-龥぀-ゟ゠-ヿ]+", _DEEPSEEK_3))
SPARK_2_5 = PreTokenizer(
    (*DEEPSEEK_3.regexes[:2], _DEEPSEEK_3.replace(r"[\r\n]*|\s*[\r\n]+", r"|[\r\n]"), r"\p{N}")
)
BLOOM = PreTokenizer((_BLOOM,))
VIKING = PreTokenizer((_BLOOM, r"\p{N}"))
SEED_CODER = PreTokenizer(
    (
        _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+",
    )
)
BAILING = PreTokenizer(
    (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*"
        r"|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)
EXAONE_MOE = PreTokenizer(
    (
        _CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}"
        r"| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+",
    )
)

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
    "falcon": FALCON,
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
    "jais-2": JAIS_2,
    "minicpm5": MINICPM_5,
    **dict.fromkeys(
        (
            *("qwen2", "deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan", "grok-2"),
            "solar-open",
        ),
        QWEN_2,
    ),
    "qwen35": QWEN_3_5,
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"), GPT_4O),
    "tekken": TEKKEN,
    "deepseek-llm": DEEPSEEK_LLM,
    "deepseek-coder": DEEPSEEK_CODER,
    **dict.fromkeys(("deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"), DEEPSEEK_3),
    "spark2_5": SPARK_2_5,
    **dict.fromkeys(("bloom", "poro-chat", "gpt3-finnish"), BLOOM),
    "viking": VIKING,
    "seed-coder": SEED_CODER,
    **dict.fromkeys(("bailingmoe", "bailingmoe2", "llada-moe"), BAILING),
    "exaone-moe": EXAONE_MOE,
}
