"""Opens what a command works on: the plugins, the same session as the desk's, and an engine for it."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from studio.cli.command_line import parse_adapter
from studio.cli.output import finish
from studio.contracts import Engine, Plugins
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.tokenizer import Tokenizer
from studio.errors import StudioError
from studio.jobs.opening import load_adapter, open_base
from studio.resources import is_package_reference
from studio.session.session import Session


@contextmanager
def open_session(base: str, adapters: Sequence[str] | None, plugins: Plugins) -> Iterator[Session]:
    """Open a base and adapters, each given as PATH[:SCALE], as a session; its base is closed in the end.

    Raises
    ------
    StudioError
        If the base or any of the adapters is refused.
    """
    arguments = [parse_adapter(text) for text in adapters or ()]
    session = Session()
    session.set_base(finish(open_base(base if is_package_reference(base) else Path(base), plugins)))
    assert session.base is not None
    try:
        for argument in arguments:
            session.add_adapter(finish(load_adapter(argument.path, session.base, plugins)), argument.scale)
        yield session
    finally:
        session.base.close()


@contextmanager
def open_engine(session: Session, backend: str) -> Iterator[Engine]:
    """Open an engine on the session's base, with the adapters of its stack attached."""
    assert session.base is not None
    engine = LocalEngine(choose_backend(backend))
    try:
        engine.open(session.base)
        engine.attach(session.stack.by_key)
        yield engine
    finally:
        engine.close()


def tokenizer_of(session: Session) -> Tokenizer:
    """Return the base's tokenizer.

    Raises
    ------
    StudioError
        Why it has none.
    """
    if session.tokenizer is None:
        raise session.tokenizer_error or StudioError("the base has no tokenizer")
    return session.tokenizer
