"""The printed preview of training data."""

from __future__ import annotations

import pytest

from studio.cli.data_preview import print_preview
from studio.contracts import Example
from studio.engine.tokenizer import Tokenizer


def test_each_stretch_says_whether_it_is_predicted(
    smollm2_tokenizer: Tokenizer, capsys: pytest.CaptureFixture[str]
) -> None:
    tokens = smollm2_tokenizer.encode('The "sea"\nis<|im_end|>')
    print_preview([Example.of(tokens, 5), Example.of(tokens)], smollm2_tokenizer, 1)
    assert capsys.readouterr().out == (
        'example 1: 7 tokens, 2 predicted\n  read       "The \\"sea\\"\\n"\n  predicted  "is<|im_end|>"\n'
    )
