"""One search for a blend: what it measures with, which blends it tries, and the best so far."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from studio.jobs.losses import losses_of, slopes_of
from studio.learning.descent import Slope, descend
from studio.learning.lorahub import try_points
from studio.learning.searches import FoundBlend, SearchProgress

if TYPE_CHECKING:
    from collections.abc import Generator, Sequence

    from studio.contracts import Example, LearningEngine, Loss, Progress
    from studio.learning.blend_parameters import BlendParameters, Vector
    from studio.learning.searches import SearchOptions


class BlendSearch:
    """One search: what it measures with, and the best blend so far."""

    def __init__(
        self,
        engine: LearningEngine,
        examples: Sequence[Example],
        parameters: BlendParameters,
        options: SearchOptions,
        before: Loss,
    ) -> None:
        self.best: FoundBlend | None = None
        self._engine = engine
        self._examples = examples
        self._parameters = parameters
        self._options = options
        self._before = before
        self._history: list[float] = []
        self._lowest = np.inf
        self._low = np.full_like(parameters.start, options.lowest)
        self._high = np.full_like(parameters.start, options.highest)
        self._penalty = options.l1 * parameters.shares / parameters.shares.sum()

    @property
    def _left(self) -> int:
        return self._options.steps - len(self._history)

    @property
    def _progress(self) -> SearchProgress:
        told = "" if self.best is None else f"Loss {self.best.after.mean:.4f}"
        return SearchProgress(len(self._history), self._options.steps, told, best=self.best)

    def follow_slope(self) -> Generator[Progress, None, None]:
        """Descend by the gradient."""
        descent = descend(self._parameters.start, self._low, self._high, self._penalty)
        point = next(descent)
        while self._left:
            blend = self._parameters.blend(point)
            found = yield from slopes_of(self._engine, self._examples, blend, self._progress)
            self._note(point, found.loss)
            try:
                point = descent.send(Slope(found.loss.mean, self._parameters.gradient(found)))
            except StopIteration:
                break
        yield self._progress

    def try_points(self) -> Generator[Progress, None, None]:
        """Try blends that nevergrad proposes."""
        options = self._options
        trials = try_points(
            self._parameters.start,
            self._low,
            self._high,
            budget=options.steps,
            at_once=options.at_once,
            seed=options.seed,
        )
        points = next(trials)
        while self._left:
            points = points[: self._left]
            blends = [self._parameters.blend(point) for point in points]
            losses = yield from losses_of(self._engine, self._examples, blends, self._progress)
            points = trials.send([self._note(*pair) for pair in zip(points, losses, strict=True)])
        yield self._progress

    def _note(self, point: Vector, loss: Loss) -> float:
        """Keep a blend if it is the best; return what is minimised."""
        value = loss.mean + float(self._penalty @ np.abs(point))
        self._history.append(loss.mean)
        history = tuple(self._history)
        if value < self._lowest or self.best is None:
            self._lowest = value
            self.best = FoundBlend(self._parameters.state(point), self._before, loss, history)
        else:
            self.best = replace(self.best, history=history)
        return value
