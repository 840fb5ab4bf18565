"""Finds plugins by entry point, isolates the broken ones, and hands out what they registered."""

from __future__ import annotations

import dataclasses
import importlib.metadata
import inspect
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pluggy

from studio import hookspecs
from studio.contracts import (
    AdapterLoader,
    CombineMethod,
    Exporter,
    ModelLoader,
    Optimiser,
    PanelSpec,
    PluginStatus,
    Trainer,
)
from studio.errors import PluginError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from importlib.metadata import EntryPoint

FIRST_PARTY = "lora-studio"
"""The distribution whose plugins load in safe mode too."""

HOOKS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "register_model_loaders": ("model loader", ("recognises", "load")),
    "register_adapter_loaders": ("adapter loader", ("recognises", "load")),
    "register_exporters": ("exporter", ("export",)),
    "register_combine_methods": ("combine method", ("combine",)),
    "register_trainers": ("trainer", ("memory", "train")),
    "register_optimisers": ("optimiser", ("start",)),
    "register_panels": ("panel", ()),
}
"""What each hook registers, in words, and the methods that such an object must have."""


@dataclass(frozen=True)
class Registry:
    """What the working plugins registered, each list sorted by name. Satisfies `studio.contracts.Plugins`."""

    model_loaders: tuple[ModelLoader, ...]
    adapter_loaders: tuple[AdapterLoader, ...]
    exporters: tuple[Exporter, ...]
    panels: tuple[PanelSpec, ...]
    statuses: tuple[PluginStatus, ...]
    combine_methods: tuple[CombineMethod, ...] = ()
    trainers: tuple[Trainer, ...] = ()
    optimisers: tuple[Optimiser, ...] = ()


def load_plugins(safe_mode: bool = False) -> Registry:
    """Import every plugin and collect what it registers; a broken one is recorded and the rest go on.

    Plugins are imported one after another in this process: whatever one raises is caught (only Ctrl+C
    passes), but one that never returns from its import cannot be stopped. Safe mode is the way round it.

    Parameters
    ----------
    safe_mode
        Load only the plugins that come with LoRA Studio itself.
    """
    owners: dict[tuple[str, str], str] = {}
    offers: dict[str, list[Any]] = {hook: [] for hook in HOOKS}
    statuses = []
    for entry_point in _entry_points(safe_mode):
        status = PluginStatus(
            entry_point.name,
            version=(entry_point.dist and entry_point.dist.version) or "unknown",
            distribution=_distribution(entry_point),
        )
        try:
            offered = _ask(entry_point)
            _refuse_duplicates(_label(entry_point), offered, owners)
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a plugin may raise anything, SystemExit included
            statuses.append(dataclasses.replace(status, error=_plugin_error(entry_point, error)))
            continue
        for hook, items in offered.items():
            offers[hook].extend(items)
            owners.update({(hook, item.name): _label(entry_point) for item in items})
        provides = [f"{HOOKS[hook][0]}: {item.name}" for hook, items in offered.items() for item in items]
        statuses.append(dataclasses.replace(status, provides=tuple(provides)))
    found = {hook: tuple(sorted(items, key=lambda item: str(item.name))) for hook, items in offers.items()}
    return Registry(
        model_loaders=found["register_model_loaders"],
        adapter_loaders=found["register_adapter_loaders"],
        exporters=found["register_exporters"],
        panels=found["register_panels"],
        statuses=tuple(sorted(statuses, key=lambda status: (status.name, status.distribution))),
        combine_methods=found["register_combine_methods"],
        trainers=found["register_trainers"],
        optimisers=found["register_optimisers"],
    )


def _entry_points(safe_mode: bool) -> list[EntryPoint]:
    """List the plugins' entry points, our own first so that a stranger never takes a name from them."""
    found: dict[tuple[str, str], EntryPoint] = {}
    for distribution in importlib.metadata.distributions():
        try:
            points = distribution.entry_points.select(group=hookspecs.PROJECT)
        except (TypeError, ValueError, OSError):  # a damaged entry_points.txt of some installed package
            continue
        for point in points:
            owner = (distribution.name or "").lower().replace("_", "-")
            if owner == FIRST_PARTY or not safe_mode:
                found.setdefault((owner, point.name), point)  # the first on sys.path wins, as in an import
    return [found[key] for key in sorted(found, key=lambda key: (key[0] != FIRST_PARTY, key))]


def _ask(entry_point: EntryPoint) -> dict[str, list[Any]]:
    """Import one plugin and call its hooks through a manager of its own, checking all that comes back."""
    manager = pluggy.PluginManager(hookspecs.PROJECT)
    manager.add_hookspecs(hookspecs)
    plugin = entry_point.load()
    _check_hooks(manager, plugin)
    manager.register(plugin, entry_point.name)
    offered = {}
    for hook in HOOKS:
        caller = getattr(manager.hook, hook)
        if caller.get_hookimpls():
            offered[hook] = _checked(hook, caller())
    if not offered:
        raise PluginError(
            "implements none of the hooks", remedy="Mark its functions with @studio.api.hookimpl"
        )
    return offered


def _check_hooks(manager: pluggy.PluginManager, plugin: Any) -> None:
    """Say in the plugin author's words what pluggy would refuse in its own."""
    for name in dir(plugin):
        options = manager.parse_hookimpl_opts(plugin, name)
        if options is None:
            continue
        if name not in HOOKS:
            raise PluginError(f"there is no hook {name}", remedy=f"The hooks are {', '.join(HOOKS)}")
        if inspect.signature(getattr(plugin, name)).parameters:
            raise PluginError(f"{name} takes parameters, but hooks are called without any")
        if options["wrapper"] or options["hookwrapper"]:
            raise PluginError(f"{name} wraps other plugins' hooks, which each plugin has for itself here")


def _checked(hook: str, results: list[Any]) -> list[Any]:
    """Check what one hook returned; `results` is pluggy's list, empty where the plugin returned None."""
    kind, methods = HOOKS[hook]
    items = results[0] if results else None
    if not isinstance(items, list | tuple):
        raise PluginError(f"{hook} returned {type(items).__name__}, not a list")
    for item in items:
        name = getattr(item, "name", None)
        if not isinstance(name, str) or not name:
            raise PluginError(f"{hook} returned a {type(item).__name__} whose name is not a text")
        if kind == "panel":
            _check_panel(name, item)
        else:
            _check_extension(f"the {kind} {name!r}", item, methods)
        if kind == "exporter" and not _is_suffix(getattr(item, "suffix", None)):
            raise PluginError(f"the exporter {name!r} has no suffix such as '.gguf', or '' for a folder")
    return list(items)


def _is_suffix(value: object) -> bool:
    return isinstance(value, str) and (value == "" or value.startswith("."))


def _check_panel(name: str, item: Any) -> None:
    if not isinstance(item, PanelSpec) or item.factory.count(":") != 1:
        raise PluginError(f"the panel {name!r} is not a PanelSpec with a factory 'module:function'")


def _check_extension(what: str, item: Any, methods: tuple[str, ...]) -> None:
    missing = [method for method in methods if not callable(getattr(item, method, None))]
    if missing:
        raise PluginError(f"{what} has no method {', '.join(missing)}")
    options = getattr(item, "Options", None)
    if not isinstance(options, type) or not dataclasses.is_dataclass(options):
        raise PluginError(f"{what} has no Options dataclass")
    options()  # every field must have a default


def _refuse_duplicates(
    plugin: str, offered: Mapping[str, list[Any]], owners: Mapping[tuple[str, str], str]
) -> None:
    """Raise `PluginError` where a kind of thing is registered twice by the same name."""
    seen = dict(owners)
    for hook, items in offered.items():
        for item in items:
            owner = seen.setdefault((hook, item.name), plugin)
            if owner != plugin or sum(other.name == item.name for other in items) > 1:
                raise PluginError(
                    f"{plugin} registers the {HOOKS[hook][0]} {item.name!r}, "
                    f"which {owner} has registered already",
                    remedy="Uninstall one of the two",
                )


def _plugin_error(entry_point: EntryPoint, error: BaseException) -> PluginError:
    """Say what went wrong in one line; the traceback goes along as a note, as text."""
    if isinstance(error, PluginError):
        message, remedy = error.message, error.remedy
    else:
        message, remedy = traceback.format_exception_only(error)[-1].strip(), None
    wrapped = PluginError(message, where=f"plugin {_label(entry_point)}", remedy=remedy)
    wrapped.add_note("".join(traceback.format_exception(error)))
    return wrapped


def _label(entry_point: EntryPoint) -> str:
    """Name a plugin and the distribution it came in, since two of them may call theirs alike."""
    return f"{entry_point.name} (of {_distribution(entry_point)})"


def _distribution(entry_point: EntryPoint) -> str:
    return entry_point.dist.name if entry_point.dist else "unknown"
