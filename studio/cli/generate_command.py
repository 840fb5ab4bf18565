"""`lora-studio generate`: let a blend continue a text or answer a message."""

from typing import Annotated

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
    with_alpha,
)
from studio.cli.output import print_json
from studio.cli.texts import check_text


def generate(
    context: typer.Context,
    base: Base,
    adapter: Adapters = None,
    prompt: Annotated[
        str | None, typer.Option("--prompt", metavar="TEXT", help="A text to continue.")
    ] = None,
    chat: Annotated[
        str | None,
        typer.Option("--chat", metavar="TEXT", help="A message to answer, put in the chat template."),
    ] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", metavar="N", help="How many at most.")] = 128,
    temperature: Annotated[float, typer.Option("--temperature", metavar="T", help="0 is greedy.")] = 0.0,
    top_k: Annotated[int, typer.Option("--top-k", metavar="K", help="0 keeps all tokens.")] = 0,
    top_p: Annotated[float, typer.Option("--top-p", metavar="P", help="1 keeps all tokens.")] = 1.0,
    min_p: Annotated[float, typer.Option("--min-p", metavar="P", help="0 drops none.")] = 0.0,
    seed: Annotated[
        int | None, typer.Option("--seed", metavar="S", min=0, help="Makes a choice repeatable.")
    ] = None,
    gains: AdapterGains = None,
    loader_option: LoaderOptions = None,
    alpha: Alpha = None,
    backend: Backend = "auto",
    weights: Residency = "auto",
    as_json: Json = False,
) -> None:
    """Generate text with a blend, streamed as it comes."""
    exactly_one(**{"--prompt": prompt, "--chat": chat})
    from studio.cli.opening import open_engine, open_session, tokenizer_of
    from studio.contracts import Sampling
    from studio.engine.sampling import check_sampling
    from studio.errors import EngineError
    from studio.jobs.generating import generate as updates
    from studio.registry import load_plugins
    from studio.session.prompt import Prompt

    asked = Prompt(check_text(prompt if chat is None else chat), chat=chat is not None)  # type: ignore[arg-type]
    sampling = Sampling(max_tokens, temperature, top_k, top_p, min_p, seed)
    try:
        check_sampling(sampling)
    except EngineError as error:
        option = f"--{error.where}".replace("_", "-")
        raise typer.BadParameter(f"{error.message}. {error.remedy}.", param_hint=option) from None
    plugins = load_plugins(context.obj.safe_mode)
    with open_session(base, adapter, plugins, with_alpha(loader_option, alpha), gains) as session:
        tokenizer = tokenizer_of(session)
        tokens = asked.tokens(tokenizer)
        with open_engine(session, backend, weights) as engine:
            shown = 0
            for update in updates(engine, tokens, session.stack.blend, sampling, tokenizer):
                if not as_json:
                    print("".join(update.pieces[shown:]), end="", flush=True)
                    shown = len(update.pieces)
    if as_json:
        print_json({"ids": list(update.ids), "text": update.text, "tokens_per_s": update.tokens_per_second})
    else:
        print()
