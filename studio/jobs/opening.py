"""Opening bases and adapters as jobs: each yields its progress and returns plain values."""

from __future__ import annotations

import os
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from studio import resources
from studio.contracts import LowRankAdapter, Progress
from studio.engine.tokenizer import tokenizer_from_metadata
from studio.errors import FormatError, PluginError, StudioError
from studio.formats.archive import is_zip
from studio.formats.pickle_guard import refuse_pickle
from studio.jobs.finding import found_adapter, holds_adapter, recognising
from studio.jobs.options import make_options
from studio.lora.adapter import Adapter
from studio.lora.dora import DoraAdapter
from studio.lora.report import as_adapter, bind, describe
from studio.session.fingerprint import adapter_fingerprint, base_fingerprint
from studio.session.opened import AdapterSource, LoadedAdapter, OpenedBase

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from studio.contracts import AdapterLoader, BaseModel, ModelLoader, Plugins, Work
    from studio.engine.tokenizer import Tokenizer

T = TypeVar("T")

NO_OPTIONS: Mapping[str, object] = MappingProxyType({})
"""Leave every option at its default."""


def open_base(location: str | Path, plugins: Plugins, adapter_sources: Sequence[AdapterSource] = ()) -> Work:
    """Open a base with its tokenizer, read the given adapters for it, and return an `OpenedBase`.

    Parameters
    ----------
    location
        A path, or ``package:<distribution>/<file>``.
    plugins
        Whose loaders to use.
    adapter_sources
        Adapters to read for this base; one that fails goes to `OpenedBase.failures` and the rest go on.

    Raises
    ------
    FormatError
        If the file is damaged or no loader recognises it.
    """
    location, path = _located(location)
    steps = 2 + len(adapter_sources)
    yield Progress(0, steps, f"Opening {path.name}")
    loader = model_loader(path, plugins)
    base = _guarded(loader.name, lambda: loader.load(path, loader.Options()))
    try:
        yield Progress(1, steps, "Reading the tokenizer")
        tokenizer, tokenizer_error = _tokenizer_of(base)
        adapters, failures = [], []
        for number, source in enumerate(adapter_sources):
            yield Progress(2 + number, steps, f"Reading {Path(source.location).name}")
            try:
                adapters.append(read_adapter(source.location, base, plugins, source.options))
            except StudioError as error:
                failures.append(error)
        return OpenedBase(
            base=base,
            location=location,
            fingerprint=base_fingerprint(*base.files),
            tokenizer=tokenizer,
            tokenizer_error=tokenizer_error,
            adapters=tuple(adapters),
            failures=tuple(failures),
        )
    except BaseException:  # cancelling closes this generator with GeneratorExit
        base.close()
        raise


def load_adapter(
    location: str | Path,
    base: BaseModel | None,
    plugins: Plugins,
    options: Mapping[str, object] = NO_OPTIONS,
) -> Work:
    """Do what `read_adapter` does as work."""
    yield Progress(0, 1, f"Reading {Path(location).name}")
    return read_adapter(location, base, plugins, options)


def read_adapter(
    location: str | Path,
    base: BaseModel | None,
    plugins: Plugins,
    options: Mapping[str, object] = NO_OPTIONS,
) -> LoadedAdapter:
    """Read an adapter and bind it to the base, or only describe it where there is none.

    Parameters
    ----------
    location
        A path, or ``package:<distribution>/<file>``.
    base
        The base it is read for.
    plugins
        Whose loaders to use.
    options
        Values for options of the loader that recognises it, by their names.

    Raises
    ------
    FormatError
        If it is damaged or no loader recognises it.
    MismatchError
        If it does not fit the base.
    StudioError
        If its loader has no such option, or does not take the value.
    """
    location, path = _located(location)
    with found_adapter(path, plugins.adapter_loaders) as found:
        if found is None:
            raise _refusal(path, plugins)
        loader = found.loader
        made = make_options(loader, options)
        read = _guarded(loader.name, lambda: loader.load(found.path, base, made))
        if not isinstance(read, LowRankAdapter | DoraAdapter):
            raise PluginError(
                f"it returned {type(read).__name__}, which is no adapter", where=f"loader {loader.name}"
            )
        if found.path != found.source and isinstance(read, Adapter | DoraAdapter):
            read.source = found.source  # what it was unpacked to is about to go
        adapter, report = (as_adapter(read), describe(read)) if base is None else bind(read, base)
        return LoadedAdapter(adapter, report, location, adapter_fingerprint(found.source), dict(options))


def model_loader(path: Path, plugins: Plugins) -> ModelLoader:
    """Return the loader that opens the model of a path. Raises `FormatError` if none does."""
    loader = recognising(path, plugins.model_loaders)
    if loader is None:
        raise _refusal(path, plugins)
    return loader


def adapter_loader(path: Path, plugins: Plugins) -> AdapterLoader:
    """Return the loader that reads the adapter of a path. Raises `FormatError` if none does."""
    with found_adapter(path, plugins.adapter_loaders) as found:
        if found is None:
            raise _refusal(path, plugins)
        return found.loader


def recognises_adapter(path: Path, plugins: Plugins) -> bool:
    """Say whether some loader takes this for an adapter, rather than for a model."""
    return holds_adapter(path, plugins.adapter_loaders)


def _located(location: str | Path) -> tuple[str, Path]:
    """Return a location in the form that sessions keep, and the path it stands for."""
    path = resources.resolve(str(location)).expanduser()
    if not path.exists():
        raise _missing(path)
    if resources.is_package_reference(str(location)):
        return str(location), path
    return os.path.abspath(path), path


def _missing(path: Path) -> FormatError:
    return FormatError("there is no such file or folder", path=path, remedy="Check the path")


def _refusal(path: Path, plugins: Plugins) -> StudioError:
    """Say why a path is not opened as what it was given as."""
    if not path.exists():
        return _missing(path)
    if holds_adapter(path, plugins.adapter_loaders) and not is_zip(path):
        return FormatError("this is an adapter, not a base", path=path, remedy="Open its base first")
    if recognising(path, plugins.model_loaders):
        return FormatError("this is a base, not an adapter", path=path, remedy="Open it as the base")
    if path.is_file():
        refuse_pickle(path)
    bases = " or ".join(loader.name for loader in plugins.model_loaders) or "nothing: no loader is installed"
    adapters = " or ".join(loader.name for loader in plugins.adapter_loaders) or "nothing"
    return FormatError(
        "this is neither a base nor an adapter",
        path=path,
        remedy=f"A base can be: {bases}; an adapter can be: {adapters}; or a folder or zip of one",
    )


def _guarded(loader: str, load: Callable[[], T]) -> T:
    """Call a plugin's loader; what breaks inside it is the plugin's error, not the file's."""
    try:
        return load()
    except (StudioError, OSError, MemoryError):
        raise
    except Exception as error:
        raise PluginError(
            f"it broke down: {type(error).__name__}: {error}", where=f"loader {loader}"
        ) from error


def _tokenizer_of(base: BaseModel) -> tuple[Tokenizer | None, StudioError | None]:
    try:
        return tokenizer_from_metadata(base.metadata, base.path), None
    except StudioError as error:
        return None, error
