"""The order in which examples are learnt."""

from __future__ import annotations

import pytest

from studio.learning.ordering import Order


def seen(order: Order, steps: int) -> list[int]:
    return [number for step in range(steps) for number in order.of_step(step)]


def test_every_epoch_sees_every_example_once_in_an_order_of_its_own() -> None:
    numbers = seen(Order(12, 3, seed=5), 8)
    first, second = numbers[:12], numbers[12:]
    assert sorted(first) == sorted(second) == list(range(12))
    assert first != second


def test_a_seed_makes_the_same_order_whichever_step_is_asked_first() -> None:
    once, again = Order(7, 2, seed=1), Order(7, 2, seed=1)
    backwards = {step: again.of_step(step) for step in reversed(range(9))}
    assert [once.of_step(step) for step in range(9)] == [backwards[step] for step in range(9)]
    assert seen(once, 9) != seen(Order(7, 2, seed=2), 9)


def test_without_a_seed_the_examples_stay_in_their_order() -> None:
    assert seen(Order(3, 2, seed=None), 3) == [0, 1, 2, 0, 1, 2]


@pytest.mark.parametrize(("epochs", "steps"), [(1.0, 4), (2.5, 9), (0.001, 1)])
def test_epochs_become_steps(epochs: float, steps: int) -> None:
    assert Order(10, 3, seed=0).steps(epochs) == steps


def test_a_step_may_take_more_examples_than_there_are() -> None:
    assert sorted(Order(2, 5, seed=0).of_step(0)) in ([0, 0, 0, 1, 1], [0, 0, 1, 1, 1])
