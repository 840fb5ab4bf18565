"""Gains by layer and target: presets, curves over the layers, and the short form that files store."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from studio.contracts import EVEN, Gains
from studio.errors import StudioError
from studio.lora.targets import layer_of, target_of

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping

StoredGains: TypeAlias = "dict[str, float | dict[str, float]]"
"""Gains as files store them: by target, either one gain or one by layers, such as ``{"0-9": 0.5, "12": 0}``.

What is not named has the gain 1; where ranges overlap the last one counts.
"""

FIRST_LAYER_TARGETS = frozenset({"token_embd", "position_embd", "token_types"})
"""Targets outside the blocks that a token meets before the first layer; all others come after the last."""

_LAYERS = re.compile(r"(\d{1,4})(?:-(\d{1,4}))?")


def layer_count(modules: Iterable[str]) -> int:
    """Return how many layers these modules span: one more than the highest number of a block."""
    return 1 + max((layer for module in modules if (layer := layer_of(module)) is not None), default=-1)


def place_of(module: str, layers: int) -> int:
    """Return the layer whose gain a module takes.

    One outside the blocks goes with its neighbour: the embedding with the first layer, the output with the
    last.
    """
    layer = layer_of(module)
    if layer is not None:
        return layer
    return 0 if target_of(module) in FIRST_LAYER_TARGETS else max(layers - 1, 0)


def is_attention(target: str) -> bool:
    """Say whether a target belongs to the attention, such as ``attn_q``."""
    return target.startswith("attn_")


def is_mlp(target: str) -> bool:
    """Say whether a target belongs to the feed-forward, the experts and their router included."""
    return target.startswith("ffn_")


def curve(points: Mapping[int, float], layers: int) -> dict[int, float]:
    """Return the gain of each layer on straight lines between points; flat before the first, after the last.

    Parameters
    ----------
    points
        Gains by layer, at least one.
    layers
        How many layers there are.
    """
    at = sorted(points)
    return dict(enumerate(np.interp(np.arange(layers), at, [points[layer] for layer in at]).tolist()))


def over_layers(
    by_layer: Mapping[int, float],
    modules: Iterable[str],
    layers: int,
    *,
    targets: Collection[str] | None = None,
    before: Gains = EVEN,
) -> Gains:
    """Lay gains by layer over the modules of some targets, of all if None; the others stay as `before`."""
    gains = dict(before.by_module)
    for module in modules:
        if targets is None or target_of(module) in targets:
            gains[module] = by_layer.get(place_of(module, layers), gains.get(module, 1.0))
    return Gains.of(gains)


def third(index: int) -> Callable[[str, int], float]:
    """Return what gives the gain 1 in one third of the layers, 0, 1 or 2, and 0 elsewhere."""

    def gain(module: str, layers: int) -> float:
        start, stop = round(layers * index / 3), round(layers * (index + 1) / 3)
        return float(start <= place_of(module, layers) < stop)

    return gain


PRESETS: Mapping[str, Callable[[str, int], float]] = {
    "all": lambda module, layers: 1.0,
    "first-third": third(0),
    "middle-third": third(1),
    "last-third": third(2),
    "attention": lambda module, layers: float(is_attention(target_of(module))),
    "mlp": lambda module, layers: float(is_mlp(target_of(module))),
}
"""What each preset gives a module of a base of so many layers."""


def preset(
    name: str,
    modules: Iterable[str],
    layers: int,
    *,
    targets: Collection[str] | None = None,
    before: Gains = EVEN,
) -> Gains:
    """Return a preset over the modules of some targets, of all if None; the others stay as `before`."""
    gain = PRESETS[name]
    chosen = {
        module: gain(module, layers) for module in modules if targets is None or target_of(module) in targets
    }
    return Gains.of({**dict(before.by_module), **chosen})


def product(first: Gains, second: Gains) -> Gains:
    """Return gains of which both hold: they multiply."""
    names = [name for name, _ in (*first.by_module, *second.by_module)]
    return Gains.of({name: first[name] * second[name] for name in names})


def to_stored(gains: Gains) -> StoredGains:
    """Return gains in the short form: layers in a row with one gain make one range."""
    stored: StoredGains = {}
    by_target: dict[str, dict[int, float]] = {}
    for module, gain in gains.by_module:
        layer = layer_of(module)
        if layer is None:
            stored[target_of(module)] = gain
        else:
            by_target.setdefault(target_of(module), {})[layer] = gain
    for target, by_layer in by_target.items():
        runs: list[tuple[int, int, float]] = []
        for layer, gain in sorted(by_layer.items()):
            if runs and runs[-1][1] == layer - 1 and runs[-1][2] == gain:
                runs[-1] = (runs[-1][0], layer, gain)
            else:
                runs.append((layer, layer, gain))
        stored[target] = {
            str(first) if first == last else f"{first}-{last}": gain for first, last, gain in runs
        }
    return stored


def by_layer(gains: Gains, modules: Iterable[str], layers: int) -> dict[int, float] | None:
    """Return the gain of each layer that has modules; None where a layer has modules of different gains."""
    found: dict[int, float] = {}
    for module in modules:
        if found.setdefault(place_of(module, layers), gains[module]) != gains[module]:
            return None
    return dict(sorted(found.items()))


def from_stored(stored: Mapping[str, float | Mapping[str, float]], modules: Iterable[str]) -> Gains:
    """Return the gains that the short form gives to these modules.

    Raises
    ------
    StudioError
        If layers are neither a number nor a range.
    """
    ranges = {
        target: [(read_layers(text), gain) for text, gain in rule.items()]
        for target, rule in stored.items()
        if not isinstance(rule, int | float)
    }
    gains: dict[str, float] = {}
    for module in modules:
        target, layer = target_of(module), layer_of(module)
        rule = stored.get(target)
        if isinstance(rule, int | float):
            gains[module] = rule
        elif layer is not None:
            for layers, gain in ranges.get(target, ()):
                if layer in layers:
                    gains[module] = gain
    return Gains.of(gains)


def read_layers(text: str) -> range:
    """Read ``12`` or ``0-9``, both ends included.

    Raises
    ------
    StudioError
        If it is neither.
    """
    match = _LAYERS.fullmatch(text)
    layers = range(int(match[1]), int(match[2] or match[1]) + 1) if match else range(0)
    if not layers:
        raise StudioError(f"{text!r} names no layers", remedy="Write a layer as 12, a range as 0-9")
    return layers
