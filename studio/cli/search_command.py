"""`lora-studio search`: find the scales of some adapters that predict a text best."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

from studio.cli.command_line import (
    SCALE,
    Alpha,
    Backend,
    Base,
    Json,
    LoaderOptions,
    Residency,
    parse_path,
    with_alpha,
)

INTERRUPTED = 130
"""The exit code after Ctrl-C."""


def parse_bounds(text: str) -> tuple[float, float]:
    """Read ``LOW,HIGH``.

    Raises
    ------
    typer.BadParameter
        If these are not two numbers.
    """
    numbers = text.split(",")
    if len(numbers) != 2 or not all(SCALE.fullmatch(number) for number in numbers):
        raise typer.BadParameter(f"{text!r} are no bounds such as 0,1.5", param_hint="--bounds")
    low, high = map(float, numbers)
    return low, high


def search(
    context: typer.Context,
    base: Base,
    adapter: Annotated[
        list[str],
        typer.Option(
            "--adapter", metavar="PATH[:START]", help="An adapter, and the scale to begin at (1). Repeatable."
        ),
    ],
    data: Annotated[
        Path,
        typer.Option(
            "--data",
            metavar="F",
            help="What to predict: plain text, or JSON lines with text, prompt and completion, or messages.",
            parser=parse_path,
        ),
    ],
    gains: Annotated[bool, typer.Option("--gains", help="Find a gain for every layer, too.")] = False,
    method: Annotated[
        Literal["gradient", "lorahub"],
        typer.Option("--method", help="gradient follows the slope; lorahub tries blends, with nevergrad."),
    ] = "gradient",
    l1: Annotated[
        float, typer.Option("--l1", metavar="X", help="What the mean size of the scales costs, in nats.")
    ] = 0.0,
    bounds: Annotated[
        str, typer.Option("--bounds", metavar="LOW,HIGH", help="Of each scale, and of scale times gain.")
    ] = "-1.5,1.5",
    steps: Annotated[int, typer.Option("--steps", metavar="N", help="How many blends to try at most.")] = 40,
    seed: Annotated[int, typer.Option("--seed", metavar="S", min=0, help="Of what lorahub draws.")] = 0,
    at_once: Annotated[
        int, typer.Option("--at-once", metavar="N", help="How many blends lorahub tries side by side.")
    ] = 1,
    max_length: Annotated[
        int, typer.Option("--max-length", metavar="N", min=2, help="The longest example, in tokens.")
    ] = 512,
    validation: Annotated[
        Path | None,
        typer.Option(
            "--validation",
            metavar="F",
            help="What is only measured: before, after, each adapter alone, and all alike.",
            parser=parse_path,
        ),
    ] = None,
    session_file: Annotated[
        Path | None,
        typer.Option(
            "--session", metavar="OUT", help="Save the found blend as a session.", parser=parse_path
        ),
    ] = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    backend: Backend = "auto",
    weights: Residency = "auto",
    as_json: Json = False,
) -> None:
    """Find the blend that predicts some examples best.

    Ctrl-C ends the search and keeps the best blend so far.
    """
    from studio.cli.opening import longest_example, open_engine, open_session, tokenizer_of
    from studio.cli.output import finish, print_json
    from studio.cli.search_report import as_json as found_as_json
    from studio.cli.search_report import compare, run_search, show
    from studio.formats.atomic import check_target
    from studio.jobs.searching import search_blend
    from studio.learning.data import read_examples
    from studio.learning.searches import SearchOptions, rounded
    from studio.registry import load_plugins
    from studio.session.document import write_document

    low, high = parse_bounds(bounds)
    options = SearchOptions(method, gains, l1, low, high, steps, seed, at_once)
    options.check()
    if session_file is not None:
        check_target(session_file)
    plugins = load_plugins(context.obj.safe_mode)
    with open_session(base, adapter, plugins, with_alpha(loader_option, alpha)) as session:
        assert session.base is not None
        tokenizer = tokenizer_of(session)
        length = longest_example(session.base, max_length)
        examples = read_examples(data, tokenizer, max_length=length)
        held_out = read_examples(validation, tokenizer, max_length=length) if validation else ()
        adapters, start = session.stack.by_key, session.stack.state
        with open_engine(session, backend, weights) as engine:
            found, interrupted = run_search(search_blend(engine, examples, adapters, start, options))
            found = replace(found, state=rounded(found.state))
            comparison = finish(compare(engine, held_out, adapters, start, found)) if held_out else None
        session.stack.state = found.state
        if session_file is not None:
            write_document(session_file, session.document())
        if as_json:
            print_json(found_as_json(session, start, found, comparison))
        else:
            show(session, start, found, comparison)
    if interrupted:
        sys.exit(INTERRUPTED)
