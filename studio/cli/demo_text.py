"""The demo as text: the demo session's blend beside its base, printed."""

from dataclasses import replace
from importlib.metadata import version

from studio.cli.opening import open_engine, tokenizer_of
from studio.cli.output import finish, print_table
from studio.contracts import BASE_ALONE, BlendState, Engine
from studio.errors import StudioError
from studio.jobs.documents import open_document
from studio.jobs.generating import generate
from studio.registry import load_plugins
from studio.resources import demo_session
from studio.session.next_token import compare_next_token
from studio.session.opened import OpenedDocument
from studio.session.session import Session

TOP = 8
"""How many of each side's likeliest next tokens to print."""

CONTINUATION = 24
"""How many tokens each side continues the prompt by."""


def run_demo_as_text(*, safe_mode: bool = False) -> None:
    """Open the demo session, run base and blend, and print what changed.

    Raises
    ------
    StudioError
        If the base or an adapter of the demo is missing.
    """
    opened: OpenedDocument = finish(open_document(demo_session(), load_plugins(safe_mode)))
    if opened.base is None or opened.problems:
        raise opened.problems[0] if opened.problems else StudioError("the demo session names no base")
    session = Session()
    session.restore(opened)
    assert session.base is not None
    print(f"LoRA Studio {version('lora-studio')}: the demo")
    base = session.base
    print(f"base        {base.name}, {base.architecture}, {base.file_type}, {base.file_size / 1e6:.0f} MB")
    for channel in session.stack.state.channels:
        report = session.reports[channel.key]
        heard = "" if session.stack.state.audible(channel) else ", muted"
        print(
            f"adapter     {report.name} at scale {channel.scale:g}{heard}, "
            f"{report.matched} of {report.modules} modules matched"
        )
    print(f"prompt      {session.prompt.text!r}")
    try:
        with open_engine(session, "auto") as engine:
            print(f"engine      {engine.description}")
            show_next_token(session, engine)
            for side, state in (("base", BASE_ALONE), ("blend", session.stack.blend)):
                print(f"{side:<12}{continuation(session, engine, state)!r}")
    finally:
        base.close()


def show_next_token(session: Session, engine: Engine) -> None:
    """Print the next token's distribution, base beside blend."""
    tokenizer = tokenizer_of(session)
    tokens = session.prompt.tokens(tokenizer)
    alone = engine.evaluate(tokens, BASE_ALONE)
    blend = engine.evaluate(tokens, session.stack.blend)
    compared = compare_next_token(alone.logits, blend.logits, tokenizer.piece, top=TOP)
    print(
        f"next token  KL(blend || base) {compared.kl:.3f} nats, entropy "
        f"{compared.entropy_base:.2f} -> {compared.entropy_blend:.2f} nats, {blend.milliseconds:.0f} ms"
    )
    rows = [["", "token", "base", "blend"]]
    rows += [
        ["", repr(one.piece), f"{one.p_base:.3f}", f"{one.p_blend:.3f}"] for one in compared.candidates[:TOP]
    ]
    print_table([[" " * 10, *row[1:]] for row in rows], right=[2, 3])


def continuation(session: Session, engine: Engine, state: BlendState) -> str:
    """Continue the prompt as the session samples, but only by a few tokens."""
    tokenizer = tokenizer_of(session)
    sampling = replace(session.sampling, max_tokens=CONTINUATION)
    text = ""
    for update in generate(engine, session.prompt.tokens(tokenizer), state, sampling, tokenizer):
        text = update.text
    return text
