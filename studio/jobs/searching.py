"""Finding a blend on examples, and how the loss lies around it, as jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from studio.contracts import Progress
from studio.errors import StudioError
from studio.jobs.blend_search import BlendSearch
from studio.jobs.losses import PART_TOKENS, losses_of, slopes_of
from studio.learning.blend_parameters import BlendParameters, audible_keys, check_factors, heard_blend
from studio.learning.searches import Landscape, SearchProgress, check_bounds
from studio.learning.sensitivity import Sensitivity

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from studio.contracts import BlendState, DeltaAdapter, Example, LearningEngine, MixerState, Work
    from studio.learning.searches import SearchOptions

MOST_POINTS = 101
"""How many scales of each channel a landscape has at most."""


def search_blend(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    start: MixerState,
    options: SearchOptions,
    *,
    keys: Collection[str] | None = None,
) -> Work:
    """Find the scales, and the gains by layer if asked, with the lowest mean loss plus L1 penalty.

    Yields a `SearchProgress` before every pass, and returns a `FoundBlend`. Closing it ends the search; the
    last progress holds the best blend until then.

    Parameters
    ----------
    engine
        With the base open; the adapters are attached to it.
    examples
        What the blend is to predict.
    adapters
        All on the stack, by key.
    start
        Where the mixer stands. Muted channels, or those beside soloed ones, and the master stay as they are.
    options
        How to search.
    keys
        The channels to turn; all audible ones if None.

    Raises
    ------
    StudioError
        Nothing is audible, the options are not sound, or nevergrad is wanted and not installed.
    MismatchError
        The gradient is wanted, and an audible adapter shows no factors.
    EngineError
        There are no examples, or one has nothing to predict.
    """
    turned = audible_keys(start, keys)
    options.check()
    blend = heard_blend(adapters, start)
    if options.method == "gradient":
        check_factors(adapters, blend)
    engine.attach(adapters)
    parameters = BlendParameters(adapters, start, turned, by_layer=options.gains)
    waiting = SearchProgress(0, options.steps, "Measuring the blend as it stands")
    before = (yield from losses_of(engine, examples, [blend], waiting))[0]
    search = BlendSearch(engine, examples, parameters, options, before)
    yield from search.follow_slope() if options.method == "gradient" else search.try_points()
    assert search.best is not None
    return search.best


def measure_sensitivity(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    state: MixerState,
) -> Work:
    """Measure how the loss changes with every scale and gain of the audible channels.

    Returns a `Sensitivity`; the parameters and errors are those of `search_blend`.
    """
    audible_keys(state, None)
    blend = heard_blend(adapters, state)
    check_factors(adapters, blend)
    engine.attach(adapters)
    found = yield from slopes_of(engine, examples, blend, Progress(0, 0, "Measuring the slopes"))
    weight = found.loss.weight
    effective = {
        key: {module: slope / weight for module, slope in by_module.items()}
        for key, by_module in found.scales.items()
    }
    return Sensitivity(found.loss, state, effective)


def scan_landscape(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    state: MixerState,
    keys: tuple[str, str],
    spans: tuple[tuple[float, float], tuple[float, float]],
    points: int,
) -> Work:
    """Measure the loss over a grid of two channels' scales, many blends in each pass.

    Returns a `Landscape`. Closing it ends the sweep.

    Parameters
    ----------
    engine, examples, adapters, state
        As `search_blend` has them; the other channels stay as they are.
    keys
        The channels of x and of y; both must be audible.
    spans
        The lowest and the highest scale of x and of y.
    points
        How many scales of each, at least two.

    Raises
    ------
    StudioError
        A channel is not audible, both are the same, or a span is reversed.
    EngineError
        There are no examples, or a blend in the grid cannot run.
    """
    audible_keys(state, keys)
    if keys[0] == keys[1]:
        raise StudioError("a landscape lies over two channels", where=keys[0], remedy="Choose another one")
    if not 2 <= points <= MOST_POINTS:
        raise StudioError(f"{points} points a side make no landscape", remedy=f"Take from 2 to {MOST_POINTS}")
    for key, (low, high) in zip(keys, spans, strict=True):
        check_bounds(low, high, where=key)
    engine.attach(adapters)
    x, y = (np.linspace(low, high, points) for low, high in spans)
    parameters = BlendParameters(adapters, state, keys)
    order = [parameter.key for parameter in parameters.parameters]

    def at(point: tuple[float, float]) -> BlendState:
        turned = dict(zip(keys, point, strict=True))
        return parameters.blend(np.array([turned[key] for key in order]))

    here = dict(zip(order, map(float, parameters.start), strict=True))
    point = here[keys[0]], here[keys[1]]
    blends = [at((one, other)) for other in y for one in x] + [at(point)]
    tokens = sum(len(example.tokens) for example in examples)
    at_once = max(1, PART_TOKENS // max(1, tokens))
    losses: list[float] = []
    for first in range(0, len(blends), at_once):
        progress = Progress(first, len(blends), "Measuring the landscape")
        part = yield from losses_of(engine, examples, blends[first : first + at_once], progress)
        losses += [loss.mean for loss in part]
    grid = np.array(losses[:-1]).reshape(points, points)
    return Landscape(keys, x, y, grid, point, losses[-1])


def measure_losses(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    states: Sequence[MixerState],
) -> Work:
    """Measure the loss under each of several mixers, silent ones too. Return a list of `Loss`."""
    engine.attach(adapters)
    blends = [heard_blend(adapters, state) for state in states]
    return (yield from losses_of(engine, examples, blends, Progress(0, 0, "Measuring the loss")))
