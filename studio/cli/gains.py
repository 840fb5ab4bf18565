"""`--gains [ADAPTER=]WHERE`: how loud an adapter is by layer and target, beside its scale."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import typer

from studio.cli.command_line import SCALE
from studio.contracts import EVEN, Gains
from studio.errors import StudioError
from studio.lora.adapter import listing
from studio.lora.gains import (
    PRESETS,
    curve,
    from_stored,
    layer_count,
    over_layers,
    preset,
    product,
    read_layers,
)
from studio.lora.report import adaptable_modules
from studio.lora.targets import layer_of, target_of, targets_of
from studio.session.document import LARGEST_FILE, read_gains
from studio.session.session import Session

_POINT = rf"\d{{1,4}}:(?:{SCALE.pattern})"
_CURVE = re.compile(rf"{_POINT}(?:/{_POINT})*")
_TARGET = re.compile(r"[A-Za-z0-9_.]+")

Term = Callable[[Sequence[str], int], Gains]
"""Gives the gains of some modules of a base of so many layers."""


@dataclass(frozen=True)
class GainsArgument:
    """One ``--gains``: whose they are, all adapters' if empty, and where which gain is."""

    adapter: str
    terms: tuple[Term, ...]


def parse_gains(text: str) -> GainsArgument:
    """Read ``[ADAPTER=]WHERE``.

    WHERE is a JSON object, the name of a file that ends in ``.json`` and holds one, or terms with commas
    between them whose gains multiply: a preset, a target, a layer ``12`` or layers ``0-9``, each the gain 1
    in what it names and 0 elsewhere, or a curve over the layers ``0:1/15:0.5/29:0``.

    Raises
    ------
    typer.BadParameter
        If a term is none of these.
    """
    adapter, equals, where = text.partition("=")
    if text.startswith("{") or not equals:
        adapter, equals, where = "", "", text
    if equals and not adapter:
        raise typer.BadParameter(f"{text!r} names no adapter before the =", param_hint="--gains")
    if not where:
        raise typer.BadParameter(f"{text!r} says not where", param_hint="--gains")
    if where.startswith("{"):
        return GainsArgument(adapter, (_stored(where.encode()),))
    if where.lower().endswith(".json"):
        return GainsArgument(adapter, (_stored(_read(Path(where)), Path(where)),))
    return GainsArgument(adapter, tuple(_term(term) for term in where.split(",")))


def apply_gains(session: Session, arguments: Sequence[GainsArgument]) -> None:
    """Set the gains of the adapters on a session's stack; several for one adapter multiply.

    Raises
    ------
    StudioError
        If one names no adapter, or nothing that its adapter acts on.
    """
    assert session.base is not None
    layers = layer_count(adaptable_modules(session.base))
    for argument in arguments:
        for key in _keys(session, argument.adapter):
            modules = session.stack.by_key[key].modules
            gains = [session.stack.channel(key).gains]
            for term in argument.terms:
                try:
                    gains.append(term(modules, layers))
                except StudioError as error:
                    raise StudioError(error.message, where=f"gains of {key}", remedy=error.remedy) from None
            session.stack.set_gains(key, reduce(product, gains))


def _keys(session: Session, adapter: str) -> list[str]:
    """Return the keys on the stack that a name, or a number from 1, stands for."""
    keys = list(session.stack.by_key)
    if not adapter:
        return keys
    if adapter in keys:
        return [adapter]
    if adapter.isascii() and adapter.isdigit() and 1 <= int(adapter) <= len(keys):
        return [keys[int(adapter) - 1]]
    there = ", ".join(f"{number} ({key})" for number, key in enumerate(keys, 1)) or "none"
    raise StudioError(
        f"no adapter is {adapter!r}", where="--gains", remedy=f"Name one by number or name: {there}"
    )


def _term(text: str) -> Term:
    if text in PRESETS:
        return lambda modules, layers: _some(preset(text, modules, layers), modules, text)
    if _CURVE.fullmatch(text):
        pairs = [point.split(":") for point in text.split("/")]
        points = {int(layer): float(gain) for layer, gain in pairs}
        return lambda modules, layers: over_layers(curve(points, layers), modules, layers)
    if text[:1].isdigit():
        try:
            chosen = read_layers(text)
        except StudioError as error:
            raise typer.BadParameter(str(error), param_hint="--gains") from None
        return lambda modules, layers: _only(lambda module: layer_of(module) in chosen, modules, text)
    if _TARGET.fullmatch(text):
        return lambda modules, layers: _only(lambda module: target_of(module) == text, modules, text)
    raise typer.BadParameter(f"{text!r} is no preset, target, layer or curve", param_hint="--gains")


def _stored(data: bytes, path: Path | None = None) -> Term:
    stored = read_gains(data, path)

    def gains(modules: Sequence[str], layers: int) -> Gains:
        absent = sorted(set(stored) - set(targets_of(modules)))
        if absent:
            raise _nothing(listing(absent), modules)
        return from_stored(stored, modules)

    return gains


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise StudioError(
            f"the gains cannot be read: {error.strerror}", path=path, remedy="Check that the file is there"
        ) from error


def _only(chosen: Callable[[str], bool], modules: Sequence[str], text: str) -> Gains:
    return _some(Gains.of({module: float(chosen(module)) for module in modules}), modules, text)


def _some(gains: Gains, modules: Sequence[str], text: str) -> Gains:
    """Refuse gains that silence every module: nobody means that by naming a place."""
    if gains != EVEN and not any(gains[module] for module in modules):
        raise _nothing(text, modules)
    return gains


def _nothing(text: str, modules: Sequence[str]) -> StudioError:
    return StudioError(
        f"the adapter acts on nothing in {text}",
        remedy=f"Its targets are {', '.join(targets_of(modules))}",
    )
