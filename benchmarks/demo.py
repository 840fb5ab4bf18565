"""What the benchmarks work on: the demo's base, its adapters on a stack, and a prompt of 64 tokens."""

from studio.cli.output import finish
from studio.contracts import Plugins
from studio.jobs.documents import open_document
from studio.resources import demo_session
from studio.session.session import Session

PROMPT_LENGTH = 64

TEXT = (
    "Early one morning, before the sun had risen over the quiet harbour, the old fisherman untied his boat, "
    "looked back at the town where he had lived for seventy years, and said to nobody in particular that he "
    "would be home before dark. The gulls followed him past the lighthouse and out to where the water turns "
    "from green to black, and there he let down his nets and waited, as he had always done, for the sea to "
    "make up its mind."
)


def open_demo(plugins: Plugins) -> Session:
    """Open the demo session with every channel heard at its own scale."""
    session = Session()
    session.restore(finish(open_document(demo_session(), plugins)))
    for channel in session.stack.state.channels:
        session.stack.set_muted(channel.key, False)
    return session


def prompt_tokens(session: Session) -> tuple[int, ...]:
    """Return the first 64 tokens of the text."""
    assert session.tokenizer is not None
    return tuple(session.tokenizer.encode(TEXT)[:PROMPT_LENGTH])


def prompt_text(session: Session) -> str:
    """Return a text of exactly 64 tokens."""
    assert session.tokenizer is not None
    text = session.tokenizer.decode(list(prompt_tokens(session)))
    assert len(session.tokenizer.encode(text)) == PROMPT_LENGTH
    return text
