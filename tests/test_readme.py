"""Every command that README and the guide to the command line show works as shown."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

ELSEWHERE = {
    "pip install uv && uv run lora-studio demo",  # tests/studio/cli/test_demo.py, without a screen
    "pip install uv && uv run pytest",  # this very run
}
"""Blocks that other checks run: they install the project or run all tests."""


def commands(document: str) -> list[str]:
    """Return the shell blocks of a document, joined where a later one uses what an earlier one sets."""
    text = (ROOT / document).read_text(encoding="utf-8")
    blocks = [
        block.strip() for block in re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    ]
    assert blocks, f"{document} shows no command"
    return [block for block in blocks if block not in ELSEWHERE]


@pytest.mark.skipif(sys.platform == "win32", reason="the examples are written for a POSIX shell")
@pytest.mark.parametrize(
    "document",
    [
        "README.md",
        "docs/cli.md",
        "docs/combining.md",
        "docs/searching.md",
        "docs/training.md",
        "docs/training-data.md",
    ],
)
def test_the_commands_shown_work(document: str, tmp_path: Path) -> None:
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    script = "set -eux\n" + "\n".join(commands(document)).replace("uv run ", "")
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_the_two_commands_of_readme_are_these() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(command in text for command in ELSEWHERE)


@pytest.mark.parametrize(
    "document", [path.relative_to(ROOT) for path in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]]
)
def test_links_lead_somewhere(document: Path) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (ROOT / document.parent / target).exists(), target
