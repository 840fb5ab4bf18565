"""The best of a run, and its early end."""

from __future__ import annotations

from studio.learning.stopping import Best


def test_the_best_is_the_lowest_loss_and_when_it_was() -> None:
    best = Best()
    for step, loss in enumerate([3.0, 2.0, 2.5, 2.0], start=1):
        best = best.after(step, loss)
    assert best == Best(loss=2.0, step=2, waited=2)


def test_patience_ends_a_run_that_gets_no_better() -> None:
    best = Best().after(1, 1.0).after(2, 1.1)
    assert not best.is_over(patience=2)
    assert best.after(3, 1.0).is_over(patience=2)
    assert not best.after(3, 0.9).is_over(patience=2)
    assert not best.after(3, 1.0).is_over(patience=0)
