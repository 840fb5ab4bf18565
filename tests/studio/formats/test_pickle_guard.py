"""Pickles are known by their content, whatever their name, and never opened."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from studio.errors import FormatError
from studio.formats.pickle_guard import refuse_pickle
from studio.formats.safetensors_file import read_safetensors


class Trap:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return exec, ("raise SystemExit('the pickle ran')",)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("name", ["adapter_model.bin", "adapter_model.safetensors"])
def test_a_bare_pickle_is_refused(tmp_path: Path, name: str, protocol: int) -> None:
    path = tmp_path / name
    path.write_bytes(pickle.dumps(Trap(), protocol))
    with pytest.raises(FormatError, match=rf"{name}: this is a Python pickle.*Convert it to safetensors"):
        refuse_pickle(path)
    with pytest.raises(FormatError, match="pickle"):
        read_safetensors(path)


def test_a_pytorch_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "adapter_model.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Trap()))
    with pytest.raises(FormatError, match="pickle"):
        refuse_pickle(path)


@pytest.mark.parametrize("content", [b"\x80", b"PK", b"PK\x03\x04 cut short", b"plain text"])
def test_other_content_passes(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.bin"
    path.write_bytes(content)
    refuse_pickle(path)


def test_a_safetensors_file_whose_length_looks_like_a_pickle_passes(tmp_path: Path) -> None:
    path = tmp_path / "adapter.safetensors"
    for padding in range(400, 640):
        save_file({"a": np.zeros(1, np.float32)}, path, {"note": "x" * padding})
        if path.read_bytes()[:2] == b"\x80\x02":
            break
    assert path.read_bytes()[:2] == b"\x80\x02"
    assert list(read_safetensors(path)) == ["a"]
