from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from studio.session import fingerprint
from studio.session.fingerprint import adapter_fingerprint, base_fingerprint


def test_an_adapter_file_is_known_by_its_content_wherever_it_is(tmp_path: Path) -> None:
    (tmp_path / "a.gguf").write_bytes(b"weights")
    (tmp_path / "b.gguf").write_bytes(b"weights")
    assert adapter_fingerprint(tmp_path / "a.gguf") == adapter_fingerprint(tmp_path / "b.gguf")
    assert adapter_fingerprint(tmp_path / "a.gguf") == f"sha256:{hashlib.sha256(b'weights').hexdigest()}"


def test_an_adapter_folder_is_its_weights_and_settings(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"weights")
    before = adapter_fingerprint(tmp_path)
    (tmp_path / "README.md").write_text("a word")
    assert adapter_fingerprint(tmp_path) == before
    (tmp_path / "adapter_config.json").write_text("{ }")
    assert adapter_fingerprint(tmp_path) != before


def test_a_base_in_several_files_is_known_by_all_their_sizes(tmp_path: Path) -> None:
    first, second = tmp_path / "1.gguf", tmp_path / "2.gguf"
    first.write_bytes(b"head")
    second.write_bytes(b"more")
    before = base_fingerprint(first, second)
    assert before != base_fingerprint(first)
    second.write_bytes(b"longer")
    assert base_fingerprint(first, second) != before


@pytest.mark.parametrize("change", [b"other head", b"headlonger", b"head"])
def test_a_base_is_known_by_its_head_and_size(
    tmp_path: Path, change: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fingerprint, "HEAD_BYTES", 4)
    path = tmp_path / "base.gguf"
    path.write_bytes(b"head and body")
    before = base_fingerprint(path)
    path.write_bytes(b"head AND BODY")
    assert base_fingerprint(path) == before
    path.write_bytes(change)
    assert base_fingerprint(path) != before
