"""The project's own rules hold: plugins are listed, versions pinned, layers guarded."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def plugins() -> set[str]:
    return {path.parent.name for path in (ROOT / "plugins").glob("*/__init__.py")}


def test_every_plugin_has_its_entry_point(project: dict[str, Any], plugins: set[str]) -> None:
    assert set(project["project"]["entry-points"]["lora_studio"].values()) == plugins


def test_every_plugin_stands_in_the_import_contracts(project: dict[str, Any], plugins: set[str]) -> None:
    linter = project["tool"]["importlinter"]
    contracts = {contract["id"]: contract for contract in linter["contracts"]}
    assert set(linter["root_packages"]) == plugins | {"studio"}
    assert set(contracts["plugins"]["source_modules"]) == plugins
    assert set(contracts["independence"]["modules"]) == plugins


def test_plugins_may_import_no_room_but_the_api(project: dict[str, Any]) -> None:
    contracts = {contract["id"]: contract for contract in project["tool"]["importlinter"]["contracts"]}
    rooms = {path.stem for path in (ROOT / "studio").iterdir() if path.suffix == ".py" or path.is_dir()}
    rooms -= {"__init__", "__pycache__", "api"}
    assert set(contracts["plugins"]["forbidden_modules"]) == {f"studio.{room}" for room in rooms}


def test_every_dependency_is_pinned(project: dict[str, Any]) -> None:
    listed = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *(one for group in project["dependency-groups"].values() for one in group),
    ]
    names = {re.split(r"[\[<>=~! ]", requirement)[0].lower() for requirement in listed}
    pins = project["tool"]["uv"]["constraint-dependencies"]
    assert all(re.fullmatch(r"[a-z0-9-]+==[\w.+]+", pin) for pin in pins)
    assert pins == sorted(pins, key=lambda pin: pin.split("==")[0])
    assert names <= {pin.split("==")[0] for pin in pins}


VIOLATIONS = {
    "Imports point down the rooms": ("studio/formats/__init__.py", "import studio.session.session"),
    "Qt stays in studio.gui": ("studio/session/__init__.py", "import PySide6.QtCore"),
    "Plugins import studio.api alone": ("plugins/studio_peft/__init__.py", "import studio.formats.atomic"),
    "Plugins don't know each other": ("plugins/studio_gguf/__init__.py", "import studio_peft"),
    "The studio knows no plugin": ("studio/registry.py", "import studio_gguf"),
}
"""By contract: a file, and a line that must not be added to it."""


def test_every_import_contract_catches_a_planted_violation(project: dict[str, Any], tmp_path: Path) -> None:
    contracts = project["tool"]["importlinter"]["contracts"]
    assert {contract["name"] for contract in contracts} == set(VIOLATIONS)
    for folder in ("studio", "plugins"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    for file, line in VIOLATIONS.values():
        with (tmp_path / file).open("a", encoding="utf-8") as module:
            module.write(f"\n{line}\n")
    script = (
        f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(tmp_path / 'plugins')!r}]\n"
        "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    verdicts = dict(re.findall(r"^(.+?) (KEPT|BROKEN)", done.stdout, flags=re.MULTILINE))
    assert verdicts == dict.fromkeys(VIOLATIONS, "BROKEN"), done.stdout


def test_nothing_that_is_committed_names_a_package_host() -> None:
    for name in ("pyproject.toml", ".ci/run", ".ci/pin.py", ".pre-commit-config.yaml"):
        assert "://" not in (ROOT / name).read_text(encoding="utf-8")
