"""Rotary frequencies and windows as a file's metadata call for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine.models.hyperparameters import Hyperparameters
from studio.engine.models.rope import Rope, plain_frequencies, read_rope
from studio.errors import FormatError

YARN = {"rope__scaling__type": "yarn", "rope__scaling__factor": 4.0}
PATTERN = "attention__sliding_window_pattern"


@pytest.fixture
def rope(tiny_base: Callable[..., Any]) -> Callable[..., Rope]:
    """Read the rope of a base with these metadata, of which 4 of 4 rows turn."""
    return lambda **more: read_rope(Hyperparameters(tiny_base(**more)), 4)


def test_a_factor_without_a_type_is_linear(rope: Callable[..., Rope]) -> None:
    np.testing.assert_allclose(rope(rope__scaling__factor=4.0).frequencies, plain_frequencies(1000.0, 4) / 4)
    still = rope(rope__scaling__type="none", rope__scaling__factor=4.0)
    np.testing.assert_allclose(still.frequencies, plain_frequencies(1000.0, 4))


def test_yarn_keeps_fast_pairs_and_slows_slow_ones(rope: Callable[..., Rope]) -> None:
    """Within 64 positions the first pair turns ten times, the second a third of once."""
    found = rope(**YARN, rope__scaling__original_context_length=64, rope__scaling__yarn_beta_fast=2.0)
    np.testing.assert_allclose(found.frequencies / plain_frequencies(1000.0, 4), [1, 0.25])


@pytest.mark.parametrize(
    ("more", "magnitude"),
    [
        ({}, 0.1 * math.log(4) + 1),
        ({"rope__scaling__attn_factor": 2.0}, 2 * (0.1 * math.log(4) + 1)),
        ({"rope__scaling__yarn_attn_factor": 1.5}, 1.5),
        ({"rope__scaling__yarn_log_multiplier": 1.0}, 1),
    ],
)
def test_yarn_scales_the_turned_rows(rope: Callable[..., Rope], more: Any, magnitude: float) -> None:
    assert rope(**YARN, **more).magnitude == pytest.approx(magnitude)


@pytest.mark.parametrize(
    ("more", "windows"),
    [
        ({}, (None,) * 4),
        ({"attention__sliding_window": 0}, (None,) * 4),
        ({"attention__sliding_window": 8}, (8, None, 8, None)),
        ({"attention__sliding_window": 8, PATTERN: 3}, (8, 8, None, 8)),
        ({"attention__sliding_window": 8, PATTERN: [False, True, True, False]}, (None, 8, 8, None)),
    ],
)
def test_which_layers_have_windows(
    tiny_base: Callable[..., Any], more: Any, windows: tuple[int | None, ...]
) -> None:
    assert Hyperparameters(tiny_base(**more)).windows(layers=4, period=2) == windows


def test_a_pattern_that_is_too_short_is_named(tiny_base: Callable[..., Any]) -> None:
    base = tiny_base(attention__sliding_window=8, **{PATTERN: [True]})
    with pytest.raises(FormatError, match="sliding_window_pattern: it has 1 values for 4 layers"):
        Hyperparameters(base).windows(layers=4, period=2)
