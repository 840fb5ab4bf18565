"""`lora-studio eval`: the next token, the likelihood of a text, and the distance from the base."""

from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.command_line import (
    AdapterGains,
    Adapters,
    Alpha,
    Backend,
    Base,
    Json,
    LoaderOptions,
    Residency,
    exactly_one,
    parse_path,
    with_alpha,
)
from studio.cli.output import finish, print_json, print_table
from studio.cli.texts import check_text, read_text


def parse_tokens(text: str) -> list[int]:
    """Read token ids such as ``1,2,3``.

    Raises
    ------
    typer.BadParameter
        If they are no whole numbers from 0 on.
    """
    ids = text.replace(" ", "").split(",")
    if not all(id_.isascii() and id_.isdigit() for id_ in ids):
        raise typer.BadParameter(f"{text!r} are no token ids such as 1,2,3", param_hint="--tokens")
    return [int(id_) for id_ in ids]


def evaluate(
    context: typer.Context,
    base: Base,
    adapter: Adapters = None,
    prompt: Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="The text.")] = None,
    tokens: Annotated[
        str | None, typer.Option("--tokens", metavar="1,2,3", help="Token ids, used exactly as given.")
    ] = None,
    file: Annotated[
        Path | None,
        typer.Option("--file", metavar="F", help="Read the text from a UTF-8 file.", parser=parse_path),
    ] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="N", min=0, help="How many next tokens to list.")
    ] = 10,
    logits: Annotated[
        Path | None,
        typer.Option(
            "--logits",
            metavar="OUT.npy",
            help="Write the logits as float32: all positions [T, vocab].",
            parser=parse_path,
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Write the last position's logits alone, [vocab].")
    ] = False,
    gains: AdapterGains = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    backend: Backend = "auto",
    weights: Residency = "auto",
    as_json: Json = False,
) -> None:
    """Evaluate a blend on a text.

    A text longer than the context runs in windows.
    """
    exactly_one(**{"--prompt": prompt, "--tokens": tokens, "--file": file})
    given = parse_tokens(tokens) if tokens is not None else None
    from studio.cli.opening import open_engine, open_session, tokenizer_of
    from studio.contracts import BASE_ALONE
    from studio.formats.atomic import check_target
    from studio.jobs.measuring import Measurement, last_logits, measure
    from studio.registry import load_plugins

    plugins = load_plugins(context.obj.safe_mode)
    with open_session(base, adapter, plugins, with_alpha(loader_option, alpha), gains) as session:
        assert session.base is not None
        in_use = [*session.base.files, *(Path(location) for location in session.locations.values())]
        if logits is not None:
            check_target(logits, in_use)
        if given is None:
            text = read_text(file) if file is not None else check_text(prompt or "")
            given = tokenizer_of(session).encode(text)
        with open_engine(session, backend, weights) as engine:
            blend = session.stack.blend
            every = logits is not None and not last
            measured: Measurement = finish(measure(engine, given, blend, "all" if every else "last"))
            alone = measured.logits if blend == BASE_ALONE else finish(last_logits(engine, given, BASE_ALONE))
            description = engine.description
        if logits is not None:
            write_logits(logits, measured.logits, in_use=in_use)
        piece = session.tokenizer.piece if session.tokenizer else no_piece
        result = summarise(measured, alone, piece, top_k)
    if as_json:
        print_json(result)
    else:
        show(result, description)


def write_logits(path: Path, logits: Any, *, in_use: list[Path]) -> None:
    """Write logits as a float32 .npy file, whole or not at all, and never over a file in use.

    Raises
    ------
    SaveError
        If it cannot be written.
    """
    import numpy as np

    from studio.formats.atomic import write_atomically

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:  # by handle: np.save would add .npy to the temporary name
            np.save(file, np.asarray(logits, dtype=np.float32))

    write_atomically(path, write, protected=in_use)


def no_piece(token: int) -> None:
    """Stand for the text of a token where no tokenizer says it."""


def summarise(measured: Any, alone: Any, piece: Any, top_k: int) -> dict[str, Any]:
    """Put a measurement of the blend, and the base's logits, into plain values."""
    import numpy as np

    from studio.session.next_token import divergence, entropy, likeliest, log_softmax

    last, base_last = (np.atleast_2d(one)[-1] for one in (measured.logits, alone))  # [vocab]
    log_blend = log_softmax(last)
    return {
        "tokens": list(measured.tokens),
        "top": [
            {
                "id": token,
                "piece": piece(token),
                "prob": float(np.exp(log_blend[token])),
                "logit": float(last[token]),
            }
            for token in likeliest(last, top_k)
        ],
        "mean_nll": measured.mean_nll,
        "kl_to_base": divergence(log_blend, log_softmax(base_last)),
        "entropy": entropy(log_blend),
        "ms": measured.milliseconds,
    }


def quoted(piece: str | None) -> str:
    """Show a token's text; nothing where no tokenizer says it."""
    return "" if piece is None else repr(piece)


def show(result: dict[str, Any], engine: str) -> None:
    """Print a summary for people."""
    print_table(
        [
            [f"{entry['prob']:.4f}", f"{entry['logit']:.3f}", str(entry["id"]), quoted(entry["piece"])]
            for entry in result["top"]
        ],
        right=[0, 1, 2],
    )
    nll = "—" if result["mean_nll"] is None else f"{result['mean_nll']:.4f} nats a token"
    print(f"likelihood  {nll} over {max(0, len(result['tokens']) - 1)} tokens")
    print(f"distance    {result['kl_to_base']:.4f} nats, KL(blend || base) at the last position")
    print(f"entropy     {result['entropy']:.4f} nats")
    print(f"time        {result['ms']:.0f} ms, {engine}")
