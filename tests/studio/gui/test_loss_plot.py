"""The loss plot: round labels on either axis, a running mean that follows, and long runs drawn in groups."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from studio.gui.loss_plot import MOST_POINTS, LossPlot, grouped, round_numbers, running_mean

if TYPE_CHECKING:
    from pytestqt.qtbot import QtBot


@pytest.fixture
def plot(qtbot: QtBot) -> LossPlot:
    plot = LossPlot()
    qtbot.addWidget(plot)
    plot.resize(400, 200)
    plot.show()
    return plot


def labels(plot: LossPlot) -> list[float]:
    return [float(label) for _, label in plot.axes["left"]._tickLevels[0]]


@pytest.mark.parametrize("log", [False, True])
def test_labels_are_round_losses_within_the_axis(plot: LossPlot, log: bool) -> None:
    plot.set_log(log)
    plot.set_losses([(step, 4.0 - step / 100) for step in range(1, 201)], [(100, 2.9)])
    low, high = plot.box.viewRange()[1]
    places = [np.log10(label) if log else label for label in labels(plot)]
    assert 2 <= len(places) <= 8 and all(low <= place <= high for place in places)
    assert set(labels(plot)) <= {2.0, 2.5, 3.0, 3.5, 4.0, 2.2, 2.4, 2.6, 2.8, 3.2, 3.4, 3.6, 3.8}


def test_it_says_where_the_curves_are(plot: LossPlot) -> None:
    assert plot.accessibleDescription() == "no step yet"
    plot.set_losses([(1, 3.0), (2, 2.5)], [(2, 2.75)])
    assert plot.accessibleDescription() == "training loss 2.500 at step 2, validation loss 2.750 at step 2"


@pytest.mark.parametrize("losses", [[], [(1, 2.0)], [(1, 0.0), (2, 0.0)], [(1, float("nan")), (2, 1.0)]])
def test_poor_runs_are_drawn_as_well(plot: LossPlot, losses: list[tuple[int, float]]) -> None:
    for log in (False, True):
        plot.set_log(log)
        plot.set_losses(losses, [])
        assert np.isfinite(plot.box.viewRange()).all()
    assert plot.grab().width() == 400


def test_the_mean_of_a_short_run_follows_it_and_of_a_long_one_is_calm() -> None:
    np.testing.assert_allclose(running_mean(np.array([3.0, 2.0, 1.0])), [3.0, 2.0, 1.0])
    noisy = 2 + np.random.default_rng(0).standard_normal(500)
    assert running_mean(noisy)[100:].std() < 0.3 * noisy.std()
    assert running_mean(noisy)[0] == noisy[0]


def test_long_runs_keep_their_mean_and_their_last_step() -> None:
    points = np.column_stack([np.arange(1, 4 * MOST_POINTS + 2), np.linspace(4, 2, 4 * MOST_POINTS + 1)])
    found = grouped(points)
    assert len(found) <= MOST_POINTS and found[-1, 0] == points[-1, 0]
    assert found[:, 1].mean() == pytest.approx(3.0, abs=0.01)


@pytest.mark.parametrize(("low", "high", "most"), [(0.0, 1.0, 5), (3.21, 3.26, 4), (1e-6, 8.0, 3)])
def test_round_numbers_are_few_and_evenly_spaced(low: float, high: float, most: int) -> None:
    found = round_numbers(low, high, most)
    assert 1 <= len(found) <= most + 1 and low <= found[0] and found[-1] <= high
    assert np.allclose(np.diff(found), np.diff(found)[:1])
