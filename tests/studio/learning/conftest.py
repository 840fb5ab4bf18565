"""A small vocabulary of single bytes with BOS, EOS and the marks of turns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from studio.contracts import MetadataValue
from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6

MakeTokenizer = Callable[[str | None], Tokenizer]


@pytest.fixture(scope="session")
def with_template() -> MakeTokenizer:
    """Make the tokenizer with a chat template."""

    def make(template: str | None) -> Tokenizer:
        special = ["<unk>", "<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>"]
        metadata: dict[str, MetadataValue] = {
            "tokenizer.ggml.model": "llama",
            "tokenizer.ggml.tokens": [*special, *(f"<0x{byte:02X}>" for byte in range(256)), "▁"],
            "tokenizer.ggml.token_type": np.array([UNKNOWN, *[CONTROL] * 4, *[BYTE] * 256, NORMAL], np.int32),
            "tokenizer.ggml.scores": np.zeros(262, np.float32),
            "tokenizer.ggml.add_space_prefix": False,
        }
        if template is not None:
            metadata["tokenizer.chat_template"] = template
        return tokenizer_from_metadata(metadata)

    return make


@pytest.fixture(scope="session")
def bos_tokenizer(with_template: MakeTokenizer) -> Tokenizer:
    """The tokenizer without one."""
    return with_template(None)
