"""The session file that docs/formats.md shows: it is whole, it is sound, and its fingerprints are right."""

from __future__ import annotations

import json
import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from studio.contracts import Sampling
from studio.resources import resolve
from studio.session.document import AdapterEntry, BaseEntry, SessionDocument, read_document
from studio.session.fingerprint import adapter_fingerprint, base_fingerprint
from studio.session.prompt import Prompt

ROOT = Path(__file__).parent.parent


@pytest.fixture
def shown() -> str:
    guide = (ROOT / "docs" / "formats.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"^```json\n(.*?)^```", guide, flags=re.MULTILINE | re.DOTALL)
    return str(example)


def test_it_has_every_field(shown: str) -> None:
    document: dict[str, Any] = json.loads(shown)
    assert list(document) == list(SessionDocument.__struct_fields__)
    assert list(document["base"]) == list(BaseEntry.__struct_fields__)
    assert list(document["adapters"][0]) == list(AdapterEntry.__struct_fields__)
    assert list(document["prompt"]) == [field.name for field in fields(Prompt)]
    assert list(document["sampling"]) == [field.name for field in fields(Sampling)]


def test_it_is_read_and_names_the_files_it_was_made_of(shown: str, tmp_path: Path) -> None:
    (tmp_path / "adapters").symlink_to(ROOT / "assets" / "adapters")
    (tmp_path / "demo").mkdir()
    file = tmp_path / "demo" / "guide.lorastudio.json"
    file.write_text(shown, encoding="utf-8")
    document = read_document(file)
    (adapter,) = document.adapters
    assert document.base is not None
    assert document.base.fingerprint == base_fingerprint(resolve(document.base.location))
    assert adapter.fingerprint == adapter_fingerprint(Path(adapter.location))
    assert adapter.scale == 0.8
