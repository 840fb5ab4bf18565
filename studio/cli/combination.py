"""How the command line says by which method adapters are combined, and to which rank."""

from collections.abc import Sequence
from typing import Annotated

import typer

from studio.cli.command_line import parse_options
from studio.contracts import Combination, Plugins

Method = Annotated[
    str | None, typer.Option("--method", metavar="M", help="Combine by this method, such as ties.")
]
MethodOptions = Annotated[
    list[str] | None,
    typer.Option("--method-option", metavar="NAME=VALUE", help="An option of the method. Repeatable."),
]
Rank = Annotated[int, typer.Option("--rank", min=0, max=4096, help="Cut every module to at most this rank.")]
Energy = Annotated[
    float,
    typer.Option("--energy", min=0, max=1, help="Cut to the rank that keeps this share of the squared norm."),
]


def find_combination(
    plugins: Plugins, method: str | None, options: Sequence[str] | None, rank: int, energy: float
) -> Combination | None:
    """Return what combines the adapters; None for their exact sum.

    Parameters
    ----------
    plugins
        Whose methods to look in.
    method, options
        A method by name, and its options as NAME=VALUE texts.
    rank, energy
        The limit on the rank of what comes of it; 0 and 1 for none.

    Raises
    ------
    typer.BadParameter
        There is no such method, or options are given without one.
    StudioError
        The method has no such option, or it does not take the value.
    """
    from studio.jobs.options import make_options
    from studio.lora.algebra import RankLimit
    from studio.lora.limiting import limited

    values = parse_options(options, "--method-option")
    if values and method is None:
        raise typer.BadParameter("options belong to a --method", param_hint="--method-option")
    chosen = None
    if method is not None:
        found = next((one for one in plugins.combine_methods if one.name == method), None)
        if found is None:
            there = ", ".join(one.name for one in plugins.combine_methods)
            raise typer.BadParameter(
                f"there is no method {method!r}; there is: {there}", param_hint="--method"
            )
        chosen = Combination(found, make_options(found, values))
    return limited(chosen, RankLimit(rank, energy))
