"""Our tokenizers beside llama.cpp's, on random texts.

Real vocabularies come from the demo's base and, where LORA_STUDIO_VOCABULARIES names it, from llama.cpp's
folder ``models``. All pre-tokenizers are tried on a vocabulary of our own, which merges across any place
where text could be cut, so that a wrong cut shows.
"""

from __future__ import annotations

import json
import random
import subprocess
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

from studio.engine.tokenizer import tokenizer_from_metadata
from studio.engine.tokenizer.byte_level import BYTE_OF_CHARACTER
from studio.engine.tokenizer.pre_tokenizers import PRE_TOKENIZERS
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf

pytestmark = pytest.mark.peers

Request = tuple[str, bool, bool]
Vectors = Callable[[str], tuple[Path, list[tuple[str, list[int]]]]]

TEXTS = 300
SCRIPT = Path(__file__).parent.parent.parent / "benchmarks" / "peers" / "llama_tokens.py"
VOCABULARIES = (
    *("gpt-2", "starcoder", "refact", "command-r", "falcon", "mpt", "llama-bpe", "qwen2", "qwen35"),
    *("deepseek-llm", "deepseek-coder", "llama-spm", "phi-3", "gemma-4"),
)
SPECIAL = ["<unk>", "<s>", "</s>", "<|im_start|>", "<|im_end|>", "<|end|>", "<|channel|>", "[INST]"]
USER_DEFINED = ["<tool>", "    "]
WORDS = (
    *("the", "The", "QUICK", "I'm", "I'M", "don't", "'s", "'S", "12", "3456", "789012", "3.14", "...", "?!"),
    *("$x", "+=", "<=", "()", "{}", "[]", "/*", "\\", "_foo", "@x", "http://a.b/c?d=e", "ab12cd", "½²", "Ⅷ"),
    *(
        "你好",
        "世界",
        "こんにちは",
        "カタカナ",
        "한국어",
        "🙂",
        "\u200d",
        "\xa0",
        "\ufeff",
        "\0",
        "▁",
        "العربية",
    ),
    *(
        "brownFox",
        "Straße",
        "ÉCOLE",
        "école",
        "Привет",
        "МИР",
        "ǅ",
        "สวัสดี",
        "e\u0301",
        "हिन्दी",
        "❤\ufe0f",
        "\u3000",
        "\u2028",
    ),
)
SPACES = (" ", " ", "  ", "   ", "\n", "\n\n", "\r\n", "\t", " \n", "\n ", "/\n", "", "")
OLD = unicodedata.ucd_3_2_0  # llama.cpp's tables lack the characters of the last years

# llama.cpp approximates some regexes, on these characters: it cuts off marks and does not see the case of
# letters beyond ASCII, takes a wide space for a plain one, keeps digits together. Ours are the models' own.


def _is_cased_or_mark(character: str) -> bool:
    category = unicodedata.category(character)
    return category[0] == "M" or (category in ("Lu", "Ll", "Lt") and not character.isascii())


def _is_wide_space(character: str) -> bool:
    return character.isspace() and not character.isascii()


APPROXIMATED: dict[str, Callable[[str], bool]] = {
    **dict.fromkeys(("gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2", "tekken"), _is_cased_or_mark),
    "deepseek-coder": _is_wide_space,
    "deepseek-llm": lambda character: _is_wide_space(character) or character.isnumeric(),
}


def requests(
    tokens: Sequence[str], special: Sequence[str], left_out: Callable[[str], bool] = lambda _: False
) -> list[Request]:
    """Make random texts of words, spaces, characters and tokens, the special ones among them."""
    choose = random.Random(0)
    words = [word for word in WORDS if not any(map(left_out, word))]
    plain = [token for token in tokens if token.isascii() and not any(map(left_out, token))]

    def part() -> str:
        kind = choose.random()
        if kind < 0.4:
            return choose.choice(words)
        if kind < 0.5:
            found = chr(choose.choice([choose.randrange(0x80, 0x3000), choose.randrange(0x3000, 0x20000)]))
            return "" if OLD.category(found) in ("Cn", "Cs", "Co") or left_out(found) else found
        if kind < 0.6:
            return choose.choice(plain)
        return choose.choice(special) if kind < 0.7 and special else choose.choice(SPACES)

    return [
        ("".join(part() for _ in range(choose.randrange(30))), choose.random() < 0.5, choose.random() < 0.5)
        for _ in range(TEXTS)
    ]


@pytest.fixture
def check(peers_python: str) -> Callable[..., None]:
    """Check that a vocabulary gives llama.cpp's tokens, and that the same ones end a generation."""

    def compare(path: Path, left_out: Callable[[str], bool] = lambda _: False) -> None:
        base = GgufFile.open(path)
        tokenizer = tokenizer_from_metadata(base.metadata, path)
        base.close()
        tokens = [tokenizer.piece(token) for token in range(tokenizer.vocabulary_size)]
        special = [tokens[token] for token in sorted(tokenizer.special_ids)][:60]
        asked = requests([*tokens, *USER_DEFINED], special, left_out)
        done = subprocess.run(
            [peers_python, str(SCRIPT), str(path)],
            input="".join(json.dumps(request) + "\n" for request in asked),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-2000:]
        *answers, ends = map(json.loads, done.stdout.splitlines())
        for (text, add_special, parse_special), answer in zip(asked, answers, strict=True):
            found = tokenizer.encode(text, add_special=add_special, parse_special=parse_special)
            assert found == answer, (text, add_special, parse_special)
        assert set(ends) == tokenizer.end_tokens

    return compare


@pytest.fixture(scope="module")
def merging_anything() -> dict[str, Any]:
    """Metadata of a vocabulary that learnt its merges from text cut every seven characters, not in words."""
    choose = random.Random(0)
    lines = ["".join(choose.choice(WORDS) + choose.choice(SPACES) for _ in range(12)) for _ in range(5000)]
    learner = Tokenizer(models.BPE())
    learner.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex("(?m:.{1,7})"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=4000,
        initial_alphabet=sorted(BYTE_OF_CHARACTER),
        special_tokens=SPECIAL,
        show_progress=False,
    )
    learner.train_from_iterator(lines, trainer)
    model = json.loads(learner.to_str())["model"]
    tokens = [*sorted(model["vocab"], key=model["vocab"].get), *USER_DEFINED]
    types = np.ones(len(tokens), np.int32)
    types[: len(SPECIAL)] = 3
    types[-len(USER_DEFINED) :] = 4
    return {
        "general.architecture": "llama",
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": types,
        "tokenizer.ggml.merges": [" ".join(merge) for merge in model["merges"]],
        "tokenizer.ggml.bos_token_id": np.uint32(1),
        "tokenizer.ggml.eos_token_id": np.uint32(2),
    }


@pytest.mark.parametrize("pre", sorted(PRE_TOKENIZERS))
def test_each_pre_tokenizer_cuts_as_llama_cpp_does(
    check: Callable[..., None], merging_anything: dict[str, Any], tmp_path: Path, pre: str
) -> None:
    path = tmp_path / "vocabulary.gguf"
    write_gguf(path, merging_anything | {"tokenizer.ggml.pre": pre}, {})
    check(path, APPROXIMATED.get(pre, lambda _: False))


def test_the_demo_base_has_the_tokens_of_llama_cpp(check: Callable[..., None], smollm2_path: Path) -> None:
    check(smollm2_path)


@pytest.mark.parametrize("name", VOCABULARIES)
def test_real_vocabularies_have_the_tokens_of_llama_cpp(
    check: Callable[..., None], vocabulary_vectors: Vectors, name: str
) -> None:
    path, _ = vocabulary_vectors(name)
    check(path, APPROXIMATED.get(name, lambda _: False))
