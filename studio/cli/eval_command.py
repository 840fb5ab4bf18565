"""`lora-studio eval`: the next token, the likelihood of a text, and the distance from the base."""

from pathlib import Path
from typing import Annotated, Any

import typer

from studio.cli.command_line import Adapters, Backend, Base, Json, exactly_one
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
        Path | None, typer.Option("--file", metavar="F", help="Read the text from a UTF-8 file.")
    ] = None,
    top_k: Annotated[
        int, typer.Option("--top-k", metavar="N", min=0, help="How many next tokens to list.")
    ] = 10,
    logits: Annotated[
        Path | None,
        typer.Option(
            "--logits", metavar="OUT.npy", help="Write the logits as float32: all positions [T, vocab]."
        ),
    ] = None,
    last: Annotated[
        bool, typer.Option("--last", help="Write the last position's logits alone, [vocab].")
    ] = False,
    backend: Backend = "auto",
    as_json: Json = False,
) -> None:
    """Evaluate a blend on a text.

    A text longer than the context runs in windows.
    """
    exactly_one(**{"--prompt": prompt, "--tokens": tokens, "--file": file})
    given = parse_tokens(tokens) if tokens is not None else None
    from studio.cli.opening import open_engine, open_session, tokenizer_of
    from studio.contracts import BASE_ALONE
    from studio.jobs.measuring import Measurement, measure
    from studio.registry import load_plugins

    with open_session(base, adapter, load_plugins(context.obj.safe_mode)) as session:
        if given is None:
            text = read_text(file) if file is not None else check_text(prompt or "")
            given = tokenizer_of(session).encode(text)
        with open_engine(session, backend) as engine:
            blend = session.stack.blend
            every = logits is not None and not last
            measured: Measurement = finish(measure(engine, given, blend, "all" if every else "last"))
            alone: Measurement = (
                measured if blend == BASE_ALONE else finish(measure(engine, given, BASE_ALONE))
            )
            description = engine.description
        if logits is not None:
            in_use = [Path(location) for location in session.locations.values()]
            write_logits(
                logits, measured.logits, in_use=[session.base.path, *in_use] if session.base else in_use
            )
        piece = session.tokenizer.piece if session.tokenizer else str
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


def summarise(measured: Any, alone: Any, piece: Any, top_k: int) -> dict[str, Any]:
    """Put a measurement of the blend, and one of the base alone, into plain values."""
    import numpy as np

    from studio.session.next_token import divergence, entropy, likeliest, log_softmax

    last, base_last = (np.atleast_2d(one.logits)[-1] for one in (measured, alone))  # [vocab]
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


def show(result: dict[str, Any], engine: str) -> None:
    """Print a summary for people."""
    print_table(
        [
            [f"{entry['prob']:.4f}", f"{entry['logit']:.3f}", str(entry["id"]), repr(entry["piece"])]
            for entry in result["top"]
        ],
        right=[0, 1, 2],
    )
    nll = "—" if result["mean_nll"] is None else f"{result['mean_nll']:.4f} nats a token"
    print(f"likelihood  {nll} over {max(0, len(result['tokens']) - 1)} tokens")
    print(f"distance    {result['kl_to_base']:.4f} nats, KL(blend || base) at the last position")
    print(f"entropy     {result['entropy']:.4f} nats")
    print(f"time        {result['ms']:.0f} ms, {engine}")
