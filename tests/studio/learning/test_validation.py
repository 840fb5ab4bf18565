"""Examples kept back."""

from __future__ import annotations

import pytest

from studio.contracts import Example
from studio.errors import StudioError
from studio.learning.validation import hold_out

EXAMPLES = [Example.of((0, token)) for token in range(20)]


def test_a_share_is_kept_back_by_seed() -> None:
    train, validation = hold_out(EXAMPLES, 0.2, seed=1)
    assert len(validation) == 4
    assert sorted(train + validation, key=lambda example: example.tokens) == EXAMPLES
    assert [*train] == sorted(train, key=lambda example: example.tokens)  # their order stays
    assert hold_out(EXAMPLES, 0.2, seed=1) == (train, validation)
    assert hold_out(EXAMPLES, 0.2, seed=2) != (train, validation)


def test_both_sides_get_something() -> None:
    assert [len(part) for part in hold_out(EXAMPLES[:2], 0.01, seed=0)] == [1, 1]
    assert [len(part) for part in hold_out(EXAMPLES[:3], 0.99, seed=0)] == [1, 2]
    assert hold_out(EXAMPLES, 0, seed=0) == (tuple(EXAMPLES), ())


@pytest.mark.parametrize(("count", "share"), [(1, 0.5), (20, 1.0), (20, -0.1), (20, float("nan"))])
def test_what_cannot_be_split_is_refused(count: int, share: float) -> None:
    with pytest.raises(StudioError):
        hold_out(EXAMPLES[:count], share, seed=0)
