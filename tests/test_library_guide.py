"""The examples of docs/seeds.md run, and its tables name what there is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from studio import api

ROOT = Path(__file__).parent.parent
GUIDE = (ROOT / "docs" / "seeds.md").read_text(encoding="utf-8")
ROWS = re.findall(r"^\| (.+) \| (.+) \| `(studio/\S+)` \| `(tests/\S+)` \|$", GUIDE, flags=re.MULTILINE)


def test_the_examples_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "assets").symlink_to(ROOT / "assets")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", GUIDE, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    exec("\n".join(blocks), {})


def test_every_row_is_read() -> None:
    rows = [line for line in GUIDE.splitlines() if line.startswith("| ") and not line.startswith("| ---")]
    assert len(ROWS) == len(rows) - 5  # one heading a table


@pytest.mark.parametrize(("theirs", "ours", "where", "test"), ROWS)
def test_ours_is_where_it_is_said_to_be_and_tested(theirs: str, ours: str, where: str, test: str) -> None:
    source, shown = ((ROOT / path).read_text(encoding="utf-8") for path in (where, test))
    named = re.findall(r"`(\w+)(?:\.(\w+))?`", ours)
    assert named, theirs
    for name, member in named:
        assert name in api.__all__, name
        assert not member or hasattr(getattr(api, name), member) or f"self.{member} =" in source, member
        assert (member or name) in shown, f"{test} shows no {member or name}"
    assert any(re.search(rf"(class|def) {name}\b", source) for name, _ in named), (
        f"{where} has none of {named}"
    )
