"""What the subcommands share on the command line: their common options, and PATH[:SCALE]."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

Base = Annotated[
    str,
    typer.Argument(
        metavar="BASE", help="A base model (GGUF), or package:<distribution>/<file>.", show_default=False
    ),
]
Adapters = Annotated[
    list[str] | None,
    typer.Option(
        "--adapter", metavar="PATH[:SCALE]", help="An adapter and its scale (1 if left out). Repeatable."
    ),
]
AdapterGains = Annotated[
    list[str] | None,
    typer.Option(
        "--gains",
        metavar="[ADAPTER=]WHERE",
        help="Where an adapter (its number or name; all if left out) is heard: attention, mlp, first-third, "
        "middle-third, last-third, a target, layers 0-9, a curve 0:1/29:0, several with commas, or a JSON "
        "file. Repeatable.",
    ),
]
LoaderOptions = Annotated[
    list[str] | None,
    typer.Option(
        "--loader-option", metavar="NAME=VALUE", help="An option of the adapters' loader. Repeatable."
    ),
]
BlendAdapters = Annotated[
    list[str],
    typer.Option("--adapter", metavar="PATH[:SCALE]", help="An adapter and its scale. Repeatable."),
]
ExporterOptions = Annotated[
    list[str] | None,
    typer.Option("--option", metavar="NAME=VALUE", help="An option of the exporter. Repeatable."),
]
To = Annotated[
    str | None,
    typer.Option("--to", metavar="FORMAT", help="An exporter by (a part of) its name, such as mlx."),
]
Alpha = Annotated[
    float | None,
    typer.Option("--alpha", help="The alpha of bare weights: short for --loader-option alpha=NUMBER."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="auto|numpy|cupy[:N]",
        help="numpy is the CPU, cupy the first NVIDIA GPU, cupy:1 the second.",
        parser=lambda text: parse_backend(text),
    ),
]
Residency = Annotated[
    Literal["auto", "dense", "float16", "quantised"],
    typer.Option(
        "--weights",
        help="dense is float32; float16 halves that on a GPU; quantised takes no more memory than the file.",
    ),
]

BACKEND = re.compile(r"auto|numpy|cupy(:\d{1,4})?")
"""What `studio.engine.backend.choose_backend` takes."""

SCALE = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?")
"""A scale as people write it. Words such as nan or inf are no scales."""


@dataclass(frozen=True)
class Options:
    """The options that stand before the subcommand."""

    safe_mode: bool = False


@dataclass(frozen=True)
class AdapterArgument:
    """One adapter as the command line names it: a path, or ``package:<distribution>/<file>``."""

    path: str
    scale: float = 1.0


class DeskByDefault(TyperGroup):
    """A command group in which a first word that is no command is a session to open on the desk."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Find the command that the arguments name, or the desk."""
        word = args[0]
        if word and word not in self.commands and (Path(word).suffix or Path(word).exists()):
            args = ["desk", *args]
        found: tuple[str | None, Any, list[str]] = super().resolve_command(ctx, args)
        return found


def parse_adapter(text: str) -> AdapterArgument:
    """Read ``PATH[:SCALE]``, llama.cpp's ``--lora-scaled`` form.

    A path that exists as it is written wins, so one with a colon in it needs no escaping. A Windows drive
    letter is safe too, since what follows it is no number.

    Raises
    ------
    typer.BadParameter
        If there is no path, or the scale is no number or past the range of a float.
    """
    path, colon, scale = text.rpartition(":")
    if not colon or Path(text).exists():
        path, scale = text, "1"
    elif not SCALE.fullmatch(scale):
        if Path(path).exists():
            raise typer.BadParameter(f"the scale {scale!r} is not a number", param_hint="--adapter")
        path, scale = text, "1"
    if not path:
        raise typer.BadParameter(f"{text!r} names no adapter", param_hint="--adapter")
    if not math.isfinite(float(scale)):
        raise typer.BadParameter(f"the scale {scale!r} is not finite", param_hint="--adapter")
    return AdapterArgument(path, float(scale))


def parse_backend(text: str) -> str:
    """Read the name of a backend.

    Raises
    ------
    typer.BadParameter
        If there is none of this name.
    """
    if not BACKEND.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is none of auto, numpy, cupy and cupy:N")
    return text


def parse_options(texts: Sequence[str] | None, param_hint: str) -> dict[str, str]:
    """Read the ``NAME=VALUE`` texts of an option.

    Raises
    ------
    typer.BadParameter
        If one has no name or no equals sign.
    """
    options = {}
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise typer.BadParameter(f"{text!r} is not NAME=VALUE", param_hint=param_hint)
        options[name] = value
    return options


def with_alpha(texts: Sequence[str] | None, alpha: float | None) -> list[str]:
    """Put ``--alpha`` among the NAME=VALUE texts that it is short for."""
    return [*(texts or ()), *([] if alpha is None else [f"alpha={alpha!r}"])]


def parse_path(text: str) -> Path:
    """Read a path, which the empty text is not: to Python it is the current folder.

    Raises
    ------
    typer.BadParameter
        If it is empty.
    """
    if not text:
        raise typer.BadParameter("the path is empty")
    return Path(text)


def exactly_one(**choices: object) -> None:
    """Refuse a command line that gives none, or more than one, of these options.

    Raises
    ------
    typer.BadParameter
        Naming the options to choose from.
    """
    if sum(value is not None for value in choices.values()) != 1:
        raise typer.BadParameter(
            "give exactly one of " + ", ".join(name.replace("_", "-") for name in choices)
        )
