"""Finding a trainer and an optimiser by what the command line says, with their options."""

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import typer

from studio.cli.command_line import parse_options
from studio.contracts import Extension, Optimisation, Plugins, Trainer
from studio.jobs.options import make_options

Kind = TypeVar("Kind", bound=Extension)

LORA, QLORA = "LoRA", "QLoRA"
"""Who trains unless another is named: a base as it is, or one that is quantised first."""

ADAMW = "adamw"
"""Which optimiser options are for unless another is named: the trainers' own."""


def find_trainer(
    plugins: Plugins, name: str | None, values: Mapping[str, object], texts: Sequence[str] | None
) -> tuple[Trainer, Any]:
    """Return a trainer and its options.

    Parameters
    ----------
    plugins
        Whose trainers to look in.
    name
        Its name; None for the studio's own.
    values
        Options that the command has flags for; None where one was not given.
    texts
        Others, as NAME=VALUE.

    Raises
    ------
    typer.BadParameter
        There is no such trainer, or an option is given twice.
    StudioError
        It has no such option, or does not take the value.
    """
    given = {key: value for key, value in values.items() if value is not None}
    trainer = _named(plugins.trainers, name or (QLORA if "quantise" in given else LORA), "--trainer")
    others = parse_options(texts, "--trainer-option")
    twice = sorted(given.keys() & others.keys())
    if twice:
        raise typer.BadParameter(
            f"{', '.join(twice)} is given by its own flag as well", param_hint="--trainer-option"
        )
    return trainer, make_options(trainer, {**given, **others})


def find_optimisation(plugins: Plugins, name: str | None, texts: Sequence[str] | None) -> Optimisation | None:
    """Return an optimiser with its options; None leaves it to the trainer. Raises as `find_trainer` does."""
    options = parse_options(texts, "--optimiser-option")
    if name is None and not options:
        return None
    optimiser = _named(plugins.optimisers, name or ADAMW, "--optimiser")
    return Optimisation(optimiser, make_options(optimiser, options))


def _named(offered: Sequence[Kind], name: str, param_hint: str) -> Kind:
    found = next((one for one in offered if one.name.lower() == name.lower()), None)
    if found is None:
        there = ", ".join(one.name for one in offered)
        raise typer.BadParameter(f"there is no {name!r}; there is: {there}", param_hint=param_hint)
    return found
