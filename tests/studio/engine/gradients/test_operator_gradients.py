"""The rule of every operator against differences in float64, on inputs that are new every time."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.engine import blocks, operators
from studio.engine.gradients import operator_gradients
from studio.engine.gradients.tape import RULES, Tape
from studio.engine.operators import causal_mask, cross_entropy

Array = np.ndarray[Any, np.dtype[Any]]


class Case:
    """Operands of an operator; the first ones are those whose gradients are asked for."""

    def __init__(self, of: Any, *operands: Any, first: int = 1, **parameters: Any) -> None:
        self.of = of
        self.operands = operands
        self.first = first
        self.parameters = parameters


def attending(random: Any, length: int, span: int, softcap: float | None, masked: bool = True) -> Case:
    """Make 2 texts of `length` queries, 6 heads over 3 groups."""
    mask = causal_mask(np, span - length, length, window=max(2, span // 2)) if masked else None
    return Case(
        operators.attention,
        random.standard_normal((6, 4, 2, length)) * 2,
        random.standard_normal((2, 3, span, 4)) * 2,
        random.standard_normal((2, 3, span, 4)),
        mask,
        first=3,
        scale=0.7,
        softcap=softcap,
    )


def cases(random: np.random.Generator) -> dict[str, Case]:
    """Make every operator's operands."""
    normal = random.standard_normal
    x, weight = normal((6, 5)), normal(6)
    heads = normal((3, 8, 2, 5))
    angles = normal((3, 1, 5))
    turns = np.cos(angles), np.sin(angles)
    chosen = np.array([[1, 0, 1], [0, 1, 1], [1, 1, 0], [0, 0, 0]], dtype=bool)
    return {
        "rms_norm": Case(operators.rms_norm, x, weight, 1e-5),
        "layer_norm": Case(operators.layer_norm, x, weight, normal(6), 1e-5),
        "layer_norm without bias": Case(operators.layer_norm, x, weight, None, 1e-5),
        "head_norm": Case(operators.head_norm, heads, normal(8), 1e-5),
        "head_norm of a weight a head": Case(operators.head_norm, heads, normal((3, 8)), 1e-5),
        "head_layer_norm": Case(operators.head_layer_norm, heads, normal((3, 8)), 1e-5),
        "rotate_pairs": Case(operators.rotate_pairs, heads, *turns),
        "rotate_halves": Case(operators.rotate_halves, heads, *turns),
        "attention": attending(random, 7, 7, None),
        "attention with a cap": attending(random, 7, 7, 3.0),
        "attention to earlier positions": attending(random, 3, 7, None),
        "attention to everything": attending(random, 4, 6, None, masked=False),
        "soft_cap": Case(operators.soft_cap, x, 2.0),
        "swiglu": Case(operators.swiglu, x, normal((6, 5)), first=2),
        "sigmoid": Case(operators.sigmoid, x),
        "gelu": Case(operators.gelu, x),
        "geglu": Case(operators.geglu, x, normal((6, 5)), first=2),
        "expert_shares": Case(operators.expert_shares, normal((4, 3)), chosen, sum_to_one=True),
        "expert_shares of all": Case(operators.expert_shares, normal((4, 3)), chosen, sum_to_one=False),
        "sum_of_columns": Case(
            operators.sum_of_columns,
            normal((6, 2)),
            normal((6, 3)),
            first=2,
            places=[np.array([4, 0]), np.array([1, 4, 2])],
            count=5,
        ),
    }


@pytest.fixture
def random() -> np.random.Generator:
    seed = secrets.randbits(32)
    print(f"seed {seed}")  # shown where the test fails
    return np.random.default_rng(seed)


def test_every_rule_is_checked(random: np.random.Generator) -> None:
    assert operator_gradients  # which brings them
    assert {case.of for case in cases(random).values()} == set(RULES)


@pytest.mark.parametrize("name", cases(np.random.default_rng(0)))
def test_a_rule_gives_the_differences(
    name: str, random: np.random.Generator, central_difference: Callable[..., float]
) -> None:
    check(cases(random)[name], random, central_difference)


def check(case: Case, random: np.random.Generator, central_difference: Callable[..., float]) -> None:
    towards = random.standard_normal(case.of(np, *case.operands, **case.parameters).shape)
    tape = Tape(np)
    traced = [tape.trace(operand) for operand in case.operands[: case.first]]
    output = case.of(np, *traced, *case.operands[case.first :], **case.parameters)
    tape.forget()
    tape.play(output, towards)
    for index in range(case.first):
        operand, gradient = case.operands[index], traced[index].slot.take()
        assert gradient.shape == operand.shape and gradient.dtype == np.float64
        found = np.zeros_like(operand)
        for place in np.ndindex(operand.shape):

            def moved(step: float, index: int = index, place: Any = place) -> float:
                operands = list(case.operands)
                operands[index] = operands[index].copy()
                operands[index][place] += step
                return float((case.of(np, *operands, **case.parameters) * towards).sum())

            found[place] = central_difference(moved, 1e-3)
        assert np.linalg.norm(gradient - found) < 1e-8 * np.linalg.norm(found)


def test_attention_in_small_blocks_gives_the_differences(
    random: np.random.Generator, central_difference: Callable[..., float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(blocks, "CACHE_BYTES", 1)
    monkeypatch.setattr(operators, "LEAST_QUERIES", 3)
    for softcap in (None, 3.0):
        case = attending(random, 7, 9, softcap)
        whole = case.of(np, *case.operands, **case.parameters)
        check(case, random, central_difference)
        monkeypatch.setattr(operators, "LEAST_QUERIES", 100)
        np.testing.assert_allclose(case.of(np, *case.operands, **case.parameters), whole, rtol=1e-12)
        monkeypatch.setattr(operators, "LEAST_QUERIES", 3)


def test_cross_entropy_gives_the_loss_and_its_differences(
    random: np.random.Generator, central_difference: Callable[..., float]
) -> None:
    logits, targets = random.standard_normal((9, 5)) * 4, random.integers(0, 9, 5)
    weights = np.array([1.0, 0.0, 0.5, 1.0, 2.0])
    losses, gradient = cross_entropy(np, logits.copy(), targets, weights, wanted=True)
    likely = np.exp(logits) / np.exp(logits).sum(axis=0)
    np.testing.assert_allclose(losses, -weights * np.log(likely[targets, range(5)]), rtol=1e-12, atol=1e-12)
    assert gradient is not None
    found = np.zeros_like(logits)
    for place in np.ndindex(logits.shape):

        def moved(step: float, place: Any = place) -> float:
            near = logits.copy()
            near[place] += step
            losses, nothing = cross_entropy(np, near, targets, weights, wanted=False)
            assert nothing is None
            return float(losses.sum())

        found[place] = central_difference(moved, 1e-3)
    assert np.linalg.norm(gradient - found) < 1e-8 * np.linalg.norm(found)


def test_cross_entropy_over_a_large_vocabulary_keeps_float32(random: np.random.Generator) -> None:
    logits = random.standard_normal((50_000, 3), dtype=np.float32) * 3 + 100
    targets, weights = random.integers(0, 50_000, 3), np.ones(3, np.float32)
    exact, wanted = cross_entropy(np, logits.astype(np.float64), targets, weights, wanted=True)
    losses, gradient = cross_entropy(np, logits.copy(), targets, weights, wanted=True)
    assert gradient is not None and gradient.dtype == np.float32 and wanted is not None
    np.testing.assert_allclose(losses, exact, rtol=2e-6)
    assert np.linalg.norm(gradient - wanted) < 1e-5 * np.linalg.norm(wanted)
