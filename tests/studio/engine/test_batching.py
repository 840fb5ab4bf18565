"""Sequences that run side by side: of about the same length, and turned alike."""

from __future__ import annotations

from studio.engine.batching import PADDING, batches


def test_alike_lengths_share_a_batch() -> None:
    assert batches([], bool) == []
    assert batches([5, 5, 5], lambda _: False) == [[0, 1, 2]]
    assert batches([5, 500, 7, 500 - PADDING], lambda _: False) == [[1, 3], [2, 0]]
    assert batches([500, 500 - PADDING, 500 - PADDING - 1], lambda _: False) == [[0, 1], [2]]


def test_long_ones_do_not_mix_with_others() -> None:
    assert batches([9, 10, 8, 11], lambda length: length > 9) == [[3, 1], [0, 2]]
