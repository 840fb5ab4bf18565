"""Bases and adapters opened by their content, with the plugins that are installed: for use as a library."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from studio.errors import UnsupportedError
from studio.jobs.opening import NO_OPTIONS, open_base, read_adapter
from studio.lora.adapter import Adapter
from studio.lora.injection import restore_adapter
from studio.registry import load_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import BaseModel, Plugins
    from studio.lora.dora import AnyAdapter
    from studio.lora.layers import Model
    from studio.session.opened import OpenedBase


def load_base(path: str | Path) -> BaseModel:
    """Open a base model, whatever format it shows to be.

    Parameters
    ----------
    path
        A path, or ``package:<distribution>/<file>``.

    Raises
    ------
    FormatError
        It is damaged, or no loader recognises it.
    """
    work = open_base(path, _plugins())
    while True:
        try:
            next(work)
        except StopIteration as done:
            opened: OpenedBase = done.value
            return opened.base


def load_adapter(
    path: str | Path,
    base: BaseModel | None = None,
    *,
    model: Model | None = None,
    options: Mapping[str, object] = NO_OPTIONS,
) -> AnyAdapter:
    """Read an adapter, whatever format it shows to be, and check it.

    Parameters
    ----------
    path
        A path, or ``package:<distribution>/<file>``.
    base
        The base that it must fit: its architecture, its modules and their shapes.
    model
        A model after `inject_lora`: the factors are put into its layers of the same names.
    options
        Values for options of the loader that recognises it, by their names.

    Raises
    ------
    FormatError
        It is damaged, or no loader recognises it.
    MismatchError
        It does not fit the base, or the model.
    UnsupportedError
        It is DoRA, and a model is given: its layers take low-rank factors alone.
    """
    adapter = read_adapter(path, base, _plugins(), options).adapter
    if model is not None:
        if not isinstance(adapter, Adapter):
            raise UnsupportedError(
                f"{adapter.name} is DoRA, and a model's layers take low-rank factors alone",
                remedy="Load it without a model and push it on a stack",
            )
        restore_adapter(model, adapter)
    return adapter


@cache
def _plugins() -> Plugins:
    return load_plugins()
