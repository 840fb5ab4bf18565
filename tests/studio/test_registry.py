"""Plugins are real: each test installs distributions on disk, as pip would, and loads them by entry point."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent

import pytest

from studio.contracts import PluginStatus
from studio.errors import PluginError
from studio.registry import Registry, load_plugins

Install = Callable[..., None]

LOADER = """
    from dataclasses import dataclass
    from studio.hookspecs import hookimpl

    @dataclass(frozen=True)
    class NoOptions:
        pass

    class Loader:
        name = "{name}"
        Options = NoOptions
        def recognises(self, path): return False
        def load(self, path, base, options): raise NotImplementedError

    @hookimpl
    def register_adapter_loaders():
        return [Loader()]
"""


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Install a distribution with one module, which is also its one plugin."""
    modules = []

    def install(module: str, source: str, *, distribution: str | None = None) -> None:
        distribution = distribution or module.replace("_", "-")
        (tmp_path / f"{module}.py").write_text(dedent(source), encoding="utf-8")
        info = tmp_path / f"{distribution.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n", "utf-8"
        )
        (info / "entry_points.txt").write_text(f"[lora_studio]\n{module} = {module}\n", encoding="utf-8")
        modules.append(module)
        monkeypatch.syspath_prepend(str(tmp_path))

    yield install
    for module in modules:
        sys.modules.pop(module, None)


def status_of(registry: Registry, name: str) -> PluginStatus:
    return next(status for status in registry.statuses if status.name == name)


def error_of(name: str) -> PluginError:
    """Load all plugins, check that ours still work, and return the error of one."""
    registry = load_plugins()
    assert [status.error for status in registry.statuses if status.name in ("gguf", "peft")] == [None, None]
    error = status_of(registry, name).error
    assert isinstance(error, PluginError)
    assert name in str(error)
    return error


def test_first_party_plugins_register_by_the_same_door() -> None:
    registry = load_plugins()
    assert [loader.name for loader in registry.model_loaders] == ["GGUF"]
    assert [loader.name for loader in registry.adapter_loaders] == [
        "MLX-LM directory",
        "PEFT directory",
        "bare safetensors",
        "ggla adapter",
        "llama.cpp GGUF adapter",
        "zerfoo GGUF adapter",
    ]
    assert [exporter.name for exporter in registry.exporters] == [
        "MLX directory",
        "PEFT directory",
        "merged base (GGUF)",
        "merged model (Hugging Face)",
        "stacked adapter (GGUF)",
        "zerfoo adapter (GGUF)",
    ]
    assert all(status.error is None for status in registry.statuses)


def test_a_strangers_plugin_is_found_with_its_version(install: Install) -> None:
    install("stranger", LOADER.format(name="a stranger's format"))
    registry = load_plugins()
    assert "a stranger's format" in [loader.name for loader in registry.adapter_loaders]
    status = status_of(registry, "stranger")
    assert (status.version, status.provides, status.error) == (
        "1.5",
        ("adapter loader: a stranger's format",),
        None,
    )


def test_results_are_sorted_by_name_whatever_the_order_of_loading(install: Install) -> None:
    install("plugin_one", LOADER.format(name="zebra"))
    install("plugin_two", LOADER.format(name="aardvark"))
    names = [loader.name for loader in load_plugins().adapter_loaders]
    assert names == sorted(names)
    assert {"aardvark", "zebra"} <= set(names)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("import no_such_module_anywhere", "ModuleNotFoundError"),
        ("def", "SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("class Mute(Exception):\n  def __str__(self): raise ValueError\nraise Mute", "Mute"),
        ("class Rude(BaseException): pass\nraise Rude('so there')", "Rude: so there"),
    ],
)
def test_a_plugin_that_fails_at_import_is_recorded(install: Install, source: str, says: str) -> None:
    install("failing", source)
    error = error_of("failing")
    assert says in error.message
    assert "Traceback" in error.__notes__[0]


HOOK = "from studio.hookspecs import hookimpl\nfrom studio.contracts import PanelSpec\n@hookimpl\n"


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (HOOK + "def register_exporters(surprise): return []", "register_exporters takes parameters"),
        (HOOK + "def register_nothing_known(): return []", "there is no hook register_nothing_known"),
        (HOOK[:-1] + "(wrapper=True)\ndef register_exporters(): yield", "register_exporters wraps"),
        (HOOK + "def register_exporters(): raise RuntimeError('half way')", "RuntimeError: half way"),
        (HOOK + "def register_exporters(): return 'text'", "str, not a list"),
        (HOOK + "def register_exporters(): pass", "NoneType, not a list"),
        (HOOK + "def register_exporters(): return [object()]", "name is not a text"),
        (HOOK + "def register_panels(): return [PanelSpec('Panel', 'no colon')]", "'module:function'"),
        ("def register_panels(): return []", "none of the hooks"),
        (LOADER.format(name="x").replace("def load", "def open"), "no method load"),
        (LOADER.format(name="x").replace("adapter_loaders", "trainers"), "no method memory, train"),
        (LOADER.format(name="x").replace("adapter_loaders", "optimisers"), "no method start"),
        (LOADER.format(name="x").replace("= NoOptions", "= dict"), "no Options dataclass"),
        (LOADER.format(name="x").replace("    pass", "    level: int"), "missing 1 required"),
    ],
)
def test_a_plugin_that_breaks_its_contract_is_recorded(install: Install, source: str, says: str) -> None:
    install("careless", source)
    error = error_of("careless")
    assert says in str(error)
    assert "pluggy" not in str(error) and " at 0x" not in str(error)


def test_a_name_that_is_taken_is_refused_naming_both_plugins(install: Install) -> None:
    install("copycat", LOADER.format(name="PEFT directory"))
    error = error_of("copycat")
    assert "copycat (of copycat)" in error.message and "peft (of lora-studio)" in error.message
    assert "'PEFT directory'" in error.message


def test_two_distributions_may_call_their_plugins_alike_but_not_their_loaders(
    install: Install, tmp_path: Path
) -> None:
    install("twin", LOADER.format(name="same"))
    other = tmp_path / "other-2.0.dist-info"
    other.mkdir()
    (other / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 2.0\n", encoding="utf-8")
    (other / "entry_points.txt").write_text("[lora_studio]\ntwin = twin\n", encoding="utf-8")
    twins = [status for status in load_plugins().statuses if status.name == "twin"]
    assert {twin.distribution for twin in twins} == {"other", "twin"}
    (error,) = [twin.error for twin in twins if twin.error is not None]
    assert "twin (of other)" in str(error) and "twin (of twin)" in str(error)


def test_a_plugin_may_not_register_a_name_twice(install: Install) -> None:
    install("doubled", LOADER.format(name="same").replace("[Loader()]", "[Loader(), Loader()]"))
    assert "'same'" in error_of("doubled").message


def test_safe_mode_never_imports_a_strangers_plugin(install: Install) -> None:
    install("stranger", LOADER.format(name="a stranger's format"))
    registry = load_plugins(safe_mode=True)
    assert {status.distribution for status in registry.statuses} == {"lora-studio"}
    assert {"gguf", "peft"} <= {status.name for status in registry.statuses}
    assert "stranger" not in sys.modules


def test_a_damaged_distribution_does_not_hide_the_others(install: Install, tmp_path: Path) -> None:
    install("stranger", LOADER.format(name="a stranger's format"))
    damaged = tmp_path / "damaged-1.0.dist-info"
    damaged.mkdir()
    (damaged / "entry_points.txt").write_text("[lora_studio]\nno equals sign here\n", encoding="utf-8")
    assert "a stranger's format" in [loader.name for loader in load_plugins().adapter_loaders]
