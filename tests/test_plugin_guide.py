"""The plugins that docs/plugins.md shows, installed and used."""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio import api, hookspecs
from studio.contracts import AdapterLoader, LowRankAdapter, Optimiser
from studio.errors import FormatError
from studio.registry import Registry, load_plugins

GUIDE = Path(__file__).parent.parent / "docs" / "plugins.md"

Installed = Callable[[str], Registry]


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Installed:
    """Install a module of the guide with the guide's project file, under the module's name."""

    def install(module: str) -> Registry:
        text = GUIDE.read_text(encoding="utf-8")
        (source,) = re.findall(
            rf"`{module}\.py`:\n\n```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL
        )
        (project,) = re.findall(r"^```toml\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        described = tomllib.loads(project.replace("studio_npz", module))["project"]
        ((entry, value),) = described["entry-points"]["lora_studio"].items()
        (tmp_path / f"{value}.py").write_text(source, encoding="utf-8")
        info = tmp_path / f"{described['name'].replace('-', '_')}-{described['version']}.dist-info"
        info.mkdir()
        metadata = f"Metadata-Version: 2.1\nName: {described['name']}\nVersion: {described['version']}\n"
        (info / "METADATA").write_text(metadata, encoding="utf-8")
        (info / "entry_points.txt").write_text(f"[lora_studio]\n{entry} = {value}\n", encoding="utf-8")
        monkeypatch.syspath_prepend(str(tmp_path))
        registry = load_plugins()
        assert next(status for status in registry.statuses if status.name == entry).error is None
        return registry

    return install


@pytest.fixture
def loader(installed: Installed) -> AdapterLoader:
    return next(one for one in installed("studio_npz").adapter_loaders if one.name == "NumPy archive")


@pytest.fixture
def optimiser(installed: Installed) -> Optimiser:
    return next(one for one in installed("studio_lion").optimisers if one.name == "lion")


def test_every_hook_is_tabled_once() -> None:
    text = GUIDE.read_text(encoding="utf-8").split("## The hooks")[1].split("\n## ")[0]
    hooks = [name for name, _ in inspect.getmembers(hookspecs, inspect.isfunction) if "register" in name]
    assert sorted(re.findall(r"^\| `(\w+)` \|", text, flags=re.MULTILINE)) == sorted(hooks)


def test_it_loads_an_adapter(loader: AdapterLoader, tmp_path: Path) -> None:
    file = tmp_path / "tiny.npz"
    a, b = np.ones((2, 3), np.float32), np.ones((4, 2), np.float32)
    arrays: dict[str, Any] = {"blk.0.attn_q.weight.a": a, "blk.0.attn_q.weight.b": b}
    np.savez(file, **arrays)
    assert loader.recognises(file)
    adapter = loader.load(file, None, loader.Options(alpha=4.0))
    assert isinstance(adapter, LowRankAdapter)
    factors = adapter.factors["blk.0.attn_q.weight"]
    assert factors.scaling == 2.0
    np.testing.assert_array_equal(factors.b @ factors.a, b @ a)


def test_it_refuses_half_a_pair(loader: AdapterLoader, tmp_path: Path) -> None:
    file = tmp_path / "half.npz"
    arrays: dict[str, Any] = {"blk.0.attn_q.weight.a": np.ones((2, 3), np.float32)}
    np.savez(file, **arrays)
    with pytest.raises(FormatError, match=r"half\.npz: blk\.0\.attn_q\.weight: B is missing"):
        loader.load(file, None, loader.Options())


def test_the_optimiser_walks_downhill_and_goes_on_from_a_checkpoint(optimiser: Optimiser) -> None:
    goal = np.array([1.0, -2.0], np.float32)
    options = optimiser.Options(beta_2=0.5)
    run = optimiser.start(options)
    value = np.zeros(2, np.float32)
    for _ in range(150):
        value = run.update("value", value, value - goal, 0.02)
    np.testing.assert_allclose(value, goal, atol=0.1)
    resumed = optimiser.start(options)
    resumed.restore(run.state())
    np.testing.assert_array_equal(
        resumed.update("value", value, value - goal, 0.02), run.update("value", value, value - goal, 0.02)
    )


def test_the_guide_lists_every_name_of_the_api() -> None:
    _, _, section = GUIDE.read_text(encoding="utf-8").partition("## What `studio.api` offers")
    cells = re.findall(r"^\| (`.*?) \|", section, flags=re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    assert sorted(listed) == sorted(api.__all__)
