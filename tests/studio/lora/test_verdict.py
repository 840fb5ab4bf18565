"""What is said of a merge."""

from __future__ import annotations

import pytest

from studio.lora.kept_delta import KeptDelta
from studio.lora.verdict import verdict


def kept(share: float, error: float) -> list[KeptDelta]:
    return [KeptDelta("a", "Q4_1", share, error)] * 3 + [KeptDelta("b", "Q8_0", 1.0, 0.1)]


@pytest.mark.parametrize(
    ("share", "error", "said", "stack"),
    [
        (0.02, 1.0, "Rounding to Q4_1 loses the blend: the median module keeps 2% of its delta", True),
        (1.01, 5.6, "The blend is there, under the noise of rounding to Q4_1", True),
        (0.98, 0.7, "The merge keeps the blend: the median module keeps 98%", False),
    ],
)
def test_it_says_when_the_stacked_adapter_is_better(
    share: float, error: float, said: str, stack: bool
) -> None:
    text = verdict(kept(share, error))
    assert said in text
    assert ("A stacked adapter beside the base loses nothing" in text) == stack


def test_floating_types_keep_the_blend() -> None:
    assert verdict([]) == "No merged weight is quantised, so rounding loses nothing of the blend."
