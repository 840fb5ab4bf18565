"""Opens what a command works on: the plugins, the same session as the desk's, and an engine for it."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path

import typer

from studio.cli.command_line import parse_adapter, parse_options
from studio.cli.gains import apply_gains, parse_gains
from studio.cli.output import finish
from studio.contracts import AdapterLoader, BaseModel, Plugins
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.residency import Residency
from studio.engine.tokenizer import Tokenizer
from studio.errors import StudioError
from studio.jobs.opening import adapter_loader, load_adapter, open_base, recognises_adapter
from studio.resources import resolve
from studio.session.opened import LoadedAdapter
from studio.session.session import Session


@contextmanager
def open_session(
    base: str,
    adapters: Sequence[str] | None,
    plugins: Plugins,
    loader_options: Sequence[str] | None = None,
    gains: Sequence[str] | None = None,
) -> Iterator[Session]:
    """Open a base and adapters, each given as PATH[:SCALE], as a session; its base is closed in the end.

    `loader_options` are NAME=VALUE texts, for each adapter whose loader has that option; `gains` are
    [ADAPTER=]WHERE texts.

    Raises
    ------
    StudioError
        If the base or any of the adapters is refused.
    """
    arguments = [parse_adapter(text) for text in adapters or ()]
    options = known_options(loader_options, plugins)
    shaped = [parse_gains(text) for text in gains or ()]
    session = Session()
    session.set_base(finish(open_base(base, plugins)))
    assert session.base is not None
    try:
        for argument in arguments:
            loaded = open_adapter(argument.path, session.base, plugins, options)
            session.add_adapter(loaded, argument.scale)
        apply_gains(session, shaped)
        yield session
    finally:
        session.base.close()


def known_options(texts: Sequence[str] | None, plugins: Plugins) -> dict[str, str]:
    """Read NAME=VALUE texts, each an option that some loader of adapters has.

    Raises
    ------
    typer.BadParameter
        If none has it.
    """
    options = parse_options(texts, "--loader-option")
    known = sorted({name for loader in plugins.adapter_loaders for name in _option_names(loader)})
    for name in options:
        if name not in known:
            there = ", ".join(known) or "none"
            raise typer.BadParameter(
                f"no loader has the option {name!r}; there is: {there}", param_hint="--loader-option"
            )
    return options


def open_adapter(
    location: str, base: BaseModel | None, plugins: Plugins, options: Mapping[str, str]
) -> LoadedAdapter:
    """Read one adapter, with those of the options that its loader has.

    Raises
    ------
    StudioError
        If it is refused, or an option's value is.
    """
    own = own_options(resolve(location).expanduser(), plugins, options)
    loaded: LoadedAdapter = finish(load_adapter(location, base, plugins, own))
    return loaded


def own_options(path: Path, plugins: Plugins, options: Mapping[str, str]) -> dict[str, str]:
    """Return those of the options that the loader of this adapter has; none of what is no adapter."""
    if not options or not recognises_adapter(path, plugins):
        return {}
    names = _option_names(adapter_loader(path, plugins))
    return {name: value for name, value in options.items() if name in names}


def _option_names(loader: AdapterLoader) -> set[str]:
    return {field.name for field in fields(loader.Options)}


@contextmanager
def open_engine(session: Session, backend: str, weights: Residency = "auto") -> Iterator[LocalEngine]:
    """Open an engine on the session's base, with the adapters of its stack attached."""
    assert session.base is not None
    engine = LocalEngine(choose_backend(backend), weights)
    try:
        engine.open(session.base)
        engine.attach(session.stack.by_key)
        yield engine
    finally:
        engine.close()


def longest_example(base: BaseModel, asked: int) -> int:
    """Return how many tokens an example may have: as asked, and no more than the base's context has."""
    context = base.metadata.get(f"{base.architecture}.context_length")
    return min(asked, context) if isinstance(context, int) else asked


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
