"""Archives of strangers: what is unpacked, and what is refused with nothing outside the folder touched."""

from __future__ import annotations

import io
import pickle
import stat
import zipfile
from pathlib import Path

import pytest

from studio.errors import FormatError, SaveError, StudioError, UnsupportedError
from studio.formats.archive import is_zip, unpack


def make(path: Path, *members: tuple[str | zipfile.ZipInfo, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members:
            packed.writestr(name, data, zipfile.ZIP_DEFLATED)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def found(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_files_are_unpacked_and_the_packers_own_left(tmp_path: Path, folder: Path) -> None:
    path = make(
        tmp_path / "a.bin",
        ("b/c.txt", b"one"),
        ("d", b""),
        ("e/", b""),
        ("__MACOSX/._c", b"x"),
        ("b/.DS_Store", b"x"),
    )
    assert is_zip(path)
    unpack(path, folder)
    assert found(folder) == {"b/c.txt": b"one", "d": b""}


LINK = zipfile.ZipInfo("link")
LINK.external_attr = (stat.S_IFLNK | 0o777) << 16


@pytest.mark.parametrize(
    "member",
    ["../a", "a/../../b", "/etc/a", "C:/a", "a\\..\\b", "a//b", "./a", "a\nb", "x/" * 20 + "a", LINK],
    ids=ascii,
)
def test_names_that_lead_out_are_refused(tmp_path: Path, folder: Path, member: str | zipfile.ZipInfo) -> None:
    path = make(tmp_path / "a.zip", ("good", b"1"), (member, b"../.."))
    with pytest.raises(FormatError, match="leads out"):
        unpack(path, folder)
    assert found(folder) == {}
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.zip", "out"]


def test_bombs_are_refused_before_they_unpack(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FormatError, match="would unpack to"):
        unpack(make(tmp_path / "zeros.zip", ("zeros", bytes(8 << 20))), folder)
    with pytest.raises(FormatError, match="more than 5"):
        unpack(make(tmp_path / "large.zip", ("a", b"123"), ("b", b"456")), folder, max_bytes=5)
    with pytest.raises(FormatError, match="1001 files"):
        unpack(make(tmp_path / "many.zip", *((str(number), b"") for number in range(1001))), folder)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: type("", (), {"free": 2})())
    with pytest.raises(SaveError, match="and .* has 2"):
        unpack(make(tmp_path / "a.zip", ("a", b"123")), folder)
    assert found(folder) == {}


def test_a_member_longer_than_it_says_is_stopped(tmp_path: Path, folder: Path) -> None:
    data = bytearray(make(tmp_path / "a.zip", ("a", b"x" * 1000)).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.index(signature) + offset
        data[place : place + 4] = (10).to_bytes(4, "little")
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(FormatError):
        unpack(tmp_path / "a.zip", folder)
    assert sum(map(len, found(folder).values())) <= 10


def test_names_that_differ_in_case_alone_are_refused(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(FormatError, match="twice"):
        unpack(make(tmp_path / "a.zip", ("a", b"1"), ("A", b"2")), folder)


def test_an_encrypted_one_is_refused(tmp_path: Path, folder: Path) -> None:
    data = bytearray(make(tmp_path / "a.zip", ("a", b"secret")).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(UnsupportedError, match="encrypted"):
        unpack(tmp_path / "a.zip", folder)


def test_a_pickle_in_an_archive_of_its_own_is_refused(tmp_path: Path, folder: Path) -> None:
    path = make(tmp_path / "model.pt", ("archive/data.pkl", pickle.dumps([1])))
    with pytest.raises(FormatError, match="pickle"):
        unpack(path, folder)


def test_damage_anywhere_is_refused_in_words(tmp_path: Path, folder: Path) -> None:
    whole = make(tmp_path / "a.zip", ("b/c.txt", b"some text " * 20), ("d", bytes(range(256)))).read_bytes()
    for place in range(0, len(whole), 3):
        for number, damaged in enumerate((whole[:place], whole[:place] + b"\xff" + whole[place + 1 :])):
            path, out = tmp_path / "damaged.zip", folder / f"{place}-{number}"
            path.write_bytes(damaged or b"PK")
            out.mkdir()
            try:
                unpack(path, out)
            except StudioError as error:
                assert error.path == path
    assert not is_zip(tmp_path / "nothing")
    assert not is_zip(folder)
    assert io.BytesIO(whole).read(2) == b"PK"
