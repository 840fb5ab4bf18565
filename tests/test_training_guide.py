"""What docs/training.md shows of a run is what the run says of its data."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from studio.engine.tokenizer import Tokenizer
from studio.learning.data import read_examples
from studio.learning.validation import hold_out

ROOT = Path(__file__).parent.parent


def test_the_examples_of_the_guide_are_counted_as_it_says(smollm2_tokenizer: Tokenizer) -> None:
    examples = read_examples(ROOT / "assets" / "guide.md", smollm2_tokenizer, max_length=64)
    learnt = replace(examples, items=hold_out(examples, 0.1, 0)[0])
    assert f"guide.md: {learnt}\n" in (ROOT / "docs" / "training.md").read_text(encoding="utf-8")
