"""What a path stands for: an adapter, or the one in a folder or an archive."""

from __future__ import annotations

import pickle
import shutil
import tempfile
import zipfile
from pathlib import Path

import pytest

from studio.errors import FormatError, StudioError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.jobs.finding import found_adapter, holds_adapter
from studio.jobs.opening import adapter_loader, read_adapter
from studio.registry import Registry, load_plugins


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> GgufFile:
    return GgufFile.open(smollm2_path)


@pytest.fixture
def folder(tmp_path: Path, adapters_dir: Path) -> Path:
    """A download: an adapter two folders deep, beside things that are none."""
    shutil.copytree(adapters_dir / "smollm2-python", tmp_path / "download" / "files" / "python")
    (tmp_path / "download" / "README.md").write_text("an adapter")
    (tmp_path / "download" / ".git").mkdir()
    return tmp_path / "download"


def pack(folder: Path, archive: Path) -> Path:
    return Path(shutil.make_archive(str(archive), "zip", folder)).rename(archive)


def test_the_one_adapter_in_a_folder(folder: Path, plugins: Registry, smollm2: GgufFile) -> None:
    loaded = read_adapter(folder, smollm2, plugins)
    assert (loaded.report.name, loaded.report.matched) == ("python", 60)
    assert loaded.location == str(folder)
    assert loaded.adapter.source == folder / "files" / "python"
    direct = read_adapter(folder / "files" / "python", smollm2, plugins)
    assert loaded.fingerprint == direct.fingerprint
    assert holds_adapter(folder, plugins.adapter_loaders)


def test_an_archive_by_any_name_is_unpacked_and_removed(
    folder: Path, plugins: Registry, smollm2: GgufFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "temporary"))
    archive = pack(folder, tmp_path / "download.dat")
    loaded = read_adapter(archive, smollm2, plugins)
    assert (loaded.report.name, loaded.report.matched) == ("python", 60)
    assert loaded.adapter.source == archive
    assert loaded.fingerprint == read_adapter(archive, smollm2, plugins).fingerprint
    assert adapter_loader(archive, plugins).name == "PEFT directory"
    assert list((tmp_path / "temporary").iterdir()) == []


def test_an_archive_of_the_bare_files_has_the_archives_name(
    adapters_dir: Path, plugins: Registry, tmp_path: Path
) -> None:
    archive = pack(adapters_dir / "smollm2-python", tmp_path / "mine.zip")
    assert read_adapter(archive, None, plugins).report.name == "mine"


def test_several_are_listed_to_choose_from(folder: Path, plugins: Registry, data_dir: Path) -> None:
    shutil.copy(data_dir / "smollm2-fortune-f16.gguf", folder / "fortune.gguf")
    with pytest.raises(FormatError, match=r"holds 2 adapters: files.python, fortune\.gguf"):
        read_adapter(folder, None, plugins)
    assert holds_adapter(folder, plugins.adapter_loaders)


def test_a_folder_that_is_an_adapter_is_that_one(
    adapters_dir: Path, data_dir: Path, plugins: Registry, tmp_path: Path
) -> None:
    """A checkpoint within it does not make it ambiguous."""
    outer = Path(shutil.copytree(adapters_dir / "smollm2-python", tmp_path / "outer"))
    shutil.copytree(adapters_dir / "smollm2-legal", outer / "checkpoint-10")
    assert read_adapter(outer, None, plugins).report.ranks == (16,)


def test_errors_name_the_archive_and_not_where_it_was_unpacked(
    folder: Path, plugins: Registry, tmp_path: Path
) -> None:
    (folder / "files" / "python" / "adapter_config.json").write_text("{")
    archive = pack(folder, tmp_path / "broken.zip")
    with pytest.raises(FormatError) as caught:
        read_adapter(archive, None, plugins)
    assert caught.value.path == archive / "files" / "python" / "adapter_config.json"


def test_pickles_are_refused_wherever_they_lie(folder: Path, plugins: Registry, tmp_path: Path) -> None:
    shutil.rmtree(folder / "files")
    with pytest.raises(FormatError, match="neither a base nor an adapter"):
        read_adapter(folder, None, plugins)
    (folder / "adapter.pt").write_bytes(pickle.dumps({"a": 1}))
    for path in (folder, pack(folder, tmp_path / "pickled.zip")):
        with pytest.raises(FormatError, match="pickle"):
            read_adapter(path, None, plugins)
    (folder / "adapter_model.bin").write_bytes(pickle.dumps({"a": 1}))
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 1, "lora_alpha": 1}')
    with pytest.raises(UnsupportedError, match="pickle"):
        read_adapter(folder, None, plugins)


def test_an_archive_of_nothing_and_a_damaged_one(plugins: Registry, tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as packed:
        packed.writestr("notes.txt", "nothing")
    with found_adapter(tmp_path / "a.zip", plugins.adapter_loaders) as found:
        assert found is None
    (tmp_path / "b.zip").write_bytes((tmp_path / "a.zip").read_bytes()[:40])
    with pytest.raises(StudioError, match="damaged"):
        read_adapter(tmp_path / "b.zip", None, plugins)


def test_a_folder_of_too_much_is_not_searched(
    plugins: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("studio.jobs.finding.MAX_ENTRIES", 3)
    for number in range(5):
        (tmp_path / str(number)).write_text("")
    with pytest.raises(FormatError, match="more than 3 files"):
        read_adapter(tmp_path, None, plugins)
    assert not holds_adapter(tmp_path, plugins.adapter_loaders)
