"""What an exported file is held against, ready to run: the live blend, or what a method makes of it."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio.contracts import BASE_ALONE, BlendChannel, BlendState
from studio.errors import UnsupportedError
from studio.jobs.combining import combine_adapter
from studio.jobs.merge_options import MergeOptions
from studio.jobs.merging import merge
from studio.jobs.opening import open_base

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping
    from contextlib import ExitStack

    from studio.contracts import BaseModel, DeltaAdapter, ExportRequest, Plugins, Progress

COMBINED = "combined"
"""The key of the adapter that a method made."""


@dataclass(frozen=True)
class Reference:
    """A model, the adapters on it, and the blend of them that an export was asked for."""

    base: BaseModel
    adapters: Mapping[str, DeltaAdapter]
    state: BlendState


def live_blend(request: ExportRequest) -> Reference:
    """Return the blend as it is heard on the desk, whatever method it is exported by."""
    return Reference(request.base, request.adapters, request.state)


def wanted_blend(
    request: ExportRequest, plugins: Plugins, resources: ExitStack
) -> Generator[Progress, None, Reference]:
    """Return the blend as its method combines it.

    What comes in factors is one adapter. Deltas of full rank are merged in float32 into a temporary copy of
    the base, so that no more of them is in memory than of a model.

    Parameters
    ----------
    request
        What was exported.
    plugins
        Whose loader opens the copy.
    resources
        What is to be closed and removed afterwards is put on it.

    Raises
    ------
    StudioError
        Nothing is audible, an adapter does not fit the base, or a method does not take the adapters.
    SaveError
        The copy finds no room on the disk of temporary files.
    """
    if request.combination is None:
        return live_blend(request)
    try:
        adapter = yield from combine_adapter(request, COMBINED)
    except UnsupportedError:  # of full rank; whatever else it is, merging refuses it again
        return (yield from _merged(request, plugins, resources))
    state = BlendState((BlendChannel(COMBINED, adapter.version, 1.0),))
    return Reference(request.base, {COMBINED: adapter}, state)


def _merged(
    request: ExportRequest, plugins: Plugins, resources: ExitStack
) -> Generator[Progress, None, Reference]:
    folder = resources.enter_context(tempfile.TemporaryDirectory(prefix="lora-studio-"))
    path = Path(folder) / "combined.gguf"
    yield from merge(request, path, MergeOptions(type="F32"))
    opened = yield from open_base(path, plugins)
    resources.callback(opened.base.close)
    return Reference(opened.base, {}, BASE_ALONE)
