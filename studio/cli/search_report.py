"""What a search found, told on the command line: scales, gains, losses, and the line that uses them."""

from collections.abc import Generator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

from studio.cli.output import finish, print_table
from studio.contracts import (
    ChannelState,
    DeltaAdapter,
    Example,
    LearningEngine,
    Loss,
    MixerState,
    Progress,
    Work,
)
from studio.jobs.searching import measure_losses
from studio.learning.searches import FoundBlend, SearchProgress, plain_blends
from studio.lora.gains import by_layer, layer_count
from studio.session.command import blend_command
from studio.session.session import Session


@dataclass(frozen=True)
class Comparison:
    """Losses on held-out examples.

    Attributes
    ----------
    before, after
        Of the blend to begin with, and of the found one.
    plain
        Of the blends that nobody has to search for, by what they are.
    """

    before: Loss
    after: Loss
    plain: Mapping[str, Loss]


def run_search(work: Work) -> tuple[FoundBlend, bool]:
    """Run a search to its end, or until Ctrl-C; return the best blend, and whether it was interrupted."""
    best: FoundBlend | None = None

    def noted() -> Work:
        nonlocal best
        with closing(work):
            while True:
                try:
                    progress = next(work)
                except StopIteration as end:
                    return end.value
                if isinstance(progress, SearchProgress):
                    best = progress.best
                yield progress

    try:
        return finish(noted()), False
    except KeyboardInterrupt:
        if best is None:
            raise
        return best, True


def compare(
    engine: LearningEngine,
    examples: Sequence[Example],
    adapters: Mapping[str, DeltaAdapter],
    start: MixerState,
    found: FoundBlend,
) -> Generator[Progress, None, Comparison]:
    """Measure what was found beside what was there and what needs no search."""
    plain = plain_blends(start)
    states = [start, found.state, *plain.values()]
    before, after, *others = yield from measure_losses(engine, examples, adapters, states)
    return Comparison(before, after, dict(zip(plain, others, strict=True)))


def as_json(
    session: Session, start: MixerState, found: FoundBlend, comparison: Comparison | None
) -> dict[str, Any]:
    """Put it into plain values."""
    told: dict[str, Any] = {
        "scales": {channel.key: channel.scale for channel in found.state.channels},
        "start": {channel.key: channel.scale for channel in start.channels},
        "before": found.before.mean,
        "after": found.after.mean,
        "predicted": found.after.weight,
        "tried": len(found.history),
        "history": list(found.history),
        "command": command_of(session),
    }
    gains = {
        channel.key: _gains(session, channel) for channel in found.state.channels if channel.gains.by_module
    }
    if gains:
        told["gains"] = gains
    if comparison is not None:
        told["validation"] = {
            "before": comparison.before.mean,
            "after": comparison.after.mean,
            "predicted": comparison.after.weight,
            "others": {name: loss.mean for name, loss in comparison.plain.items()},
        }
    return told


def show(session: Session, start: MixerState, found: FoundBlend, comparison: Comparison | None) -> None:
    """Print it for people."""
    rows = [["adapter", "start", "found"]]
    for before, after in zip(start.channels, found.state.channels, strict=True):
        rows.append([after.key, f"{before.scale:.4g}", f"{after.scale:.4g}"])
    print_table(rows, right=[1, 2])
    for channel in found.state.channels:
        if channel.gains.by_module:
            gains = " ".join(f"{gain:.2f}" for gain in _gains(session, channel).values())
            print(f"{channel.key}, by layer: {gains}")
    print(
        f"loss  {found.before.mean:.4f} -> {found.after.mean:.4f} nats a token over "
        f"{found.after.weight:.0f}, {len(found.history)} blends tried"
    )
    if comparison is not None:
        _show_comparison(comparison)
    print(f"use it: {command_of(session)}")


def command_of(session: Session) -> str:
    """Return the line that writes the session's blend as one adapter, or runs the base if it is silent."""
    if not session.stack.blend.channels:
        base = session.document().base
        return f"lora-studio generate {base.location if base else ''}"
    return blend_command(session, "stack", "-o", "blend.gguf")


def _show_comparison(comparison: Comparison) -> None:
    print(f"held out, nats a token over {comparison.after.weight:.0f}:")
    losses = [*comparison.plain.items(), ("at the start", comparison.before), ("found", comparison.after)]
    print_table([[f"  {name}", f"{loss.mean:.4f}"] for name, loss in losses], right=[1])


def _gains(session: Session, channel: ChannelState) -> dict[int, float]:
    modules = session.stack.by_key[channel.key].modules
    layers = layer_count(module for adapter in session.stack.by_key.values() for module in adapter.modules)
    found = by_layer(channel.gains, modules, layers)
    assert found is not None  # a search gives all modules of a layer one gain
    return found
