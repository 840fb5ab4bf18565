"""The line of `lora-studio` that does what the desk is set to."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from studio.contracts import EVEN
from studio.errors import StudioError
from studio.lora.gains import by_layer, layer_count, to_stored
from studio.lora.limiting import LimitedMethod
from studio.lora.report import adaptable_modules

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from studio.contracts import BlendChannel, Combination, Exporter
    from studio.session.session import Session

PROGRAM = "lora-studio"


@dataclass(frozen=True)
class ExportSettings:
    """What is exported, beside the blend itself.

    Attributes
    ----------
    exporter, options
        The exporter and an instance of its options.
    target
        The file or folder to write.
    combination
        How the adapters are combined; None for their sum.
    texts
        What to verify the export on afterwards; None for not at all, empty for texts of the studio's own.
    """

    exporter: Exporter
    options: Any
    target: Path
    combination: Combination | None = None
    texts: tuple[str, ...] | None = None


def export_command(session: Session, settings: ExportSettings) -> str:
    """Return the line that exports the session's blend, quoted for a POSIX shell.

    Raises
    ------
    StudioError
        The blend is silent, an adapter in it is in no file, or two adapters of one format were read with
        different options, for which there are no words on the command line.
    """
    words = [PROGRAM, "export", *_blend(session)]
    words += ["-o", str(settings.target), "--to", settings.exporter.name]
    words += _options("--option", settings.options)
    words += _combination(settings.combination)
    if settings.texts is not None:
        words.append("--verify")
        words += [word for text in settings.texts for word in ("--prompt", text)]
    return shlex.join(words)


def blend_command(session: Session, subcommand: str, *options: str) -> str:
    """Return the line that does something else with the session's blend, such as ``stack``.

    Raises
    ------
    StudioError
        As `export_command` raises it.
    """
    return shlex.join([PROGRAM, subcommand, *_blend(session), *options])


def _blend(session: Session) -> list[str]:
    """Return the base and what is heard: the master is in the scales, what is silent is left out."""
    base, blend = session.document().base, session.stack.blend
    if base is None or not blend.channels:
        raise StudioError(
            "the blend is silent: no adapter is audible", remedy="Add an adapter, unmute one or raise a scale"
        )
    words, gains = [base.location], []
    for number, channel in enumerate(blend.channels, 1):
        if channel.key not in session.locations:
            raise StudioError(
                f"{channel.key} was made here and is in no file yet",
                remedy="Export it, and add the file in its place",
            )
        words += ["--adapter", f"{session.locations[channel.key]}:{channel.scale:.12g}"]
        if channel.gains != EVEN:
            gains += ["--gains", f"{number}={_gains(session, channel)}"]
    return [*words, *gains, *_loader_options(session)]


def _gains(session: Session, channel: BlendChannel) -> str:
    """Return gains as a curve over the layers or as JSON by target, whichever is shorter."""
    text = json.dumps(to_stored(channel.gains), separators=(",", ":"), ensure_ascii=False)
    assert session.base is not None
    layers = layer_count(adaptable_modules(session.base))
    points = by_layer(channel.gains, session.stack.by_key[channel.key].modules, layers)
    if points is None:
        return text
    return min(text, "/".join(f"{layer}:{gain:.12g}" for layer, gain in points.items()), key=len)


def _loader_options(session: Session) -> list[str]:
    """Return the options that the adapters were read with; they hold for all adapters of a format."""
    sources = dict(zip(session.locations, session.sources, strict=True))
    by_format: dict[str, Mapping[str, object]] = {}
    merged: dict[str, object] = {}
    for channel in session.stack.blend.channels:
        options = sources[channel.key].options
        same_format = by_format.setdefault(session.reports[channel.key].format, options)
        if same_format != options or any(merged.get(name, value) != value for name, value in options.items()):
            raise StudioError(
                f"{channel.key} was read with other options than another adapter in the blend",
                remedy="Export the blend here; a command line has one value of an option for all adapters",
            )
        merged |= options
    return [word for name, value in merged.items() for word in ("--loader-option", f"{name}={_text(value)}")]


def _combination(combination: Combination | None) -> list[str]:
    if combination is None:
        return []
    words: list[str] = []
    inner: Combination | None = combination
    if isinstance(combination.method, LimitedMethod):
        inner, limit = combination.method.inner, combination.options
        words += ["--rank", str(limit.rank)] if limit.rank else []
        words += ["--energy", _text(limit.energy)] if limit.energy < 1 else []
    if inner is not None:
        words += ["--method", inner.method.name, *_options("--method-option", inner.options)]
    return words


def _options(flag: str, chosen: Any) -> Sequence[str]:
    """Return the options that are not at their default, as NAME=VALUE."""
    default = type(chosen)()
    names = [field.name for field in fields(chosen)]
    changed = {name: getattr(chosen, name) for name in names}
    return [
        word
        for name, value in changed.items()
        if value != getattr(default, name)
        for word in (flag, f"{name}={_text(value)}")
    ]


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
