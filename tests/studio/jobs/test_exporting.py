from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from studio.contracts import BASE_ALONE, Exported, ExportRequest, Progress, Work
from studio.errors import PluginError, SaveError
from studio.formats.atomic import write_atomically
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_shards import open_gguf
from studio.jobs.exporting import export


@dataclass(frozen=True)
class Options:
    text: str = "exported"


class TextExporter:
    name = "text"
    suffix = ".txt"
    Options = Options

    def export(self, request: ExportRequest, path: Path, options: Any) -> Work:
        yield Progress(0, 1, "Writing")

        def write(temporary: Path) -> None:
            temporary.write_text(options.text)

        write_atomically(path, write)


class BrokenExporter(TextExporter):
    def export(self, request: ExportRequest, path: Path, options: Any) -> Work:
        yield Progress(0, 1)
        raise ZeroDivisionError


@pytest.fixture
def request_(tiny_llama: GgufFile) -> ExportRequest:
    return ExportRequest(tiny_llama, {}, BASE_ALONE)


def finish(work: Work) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def test_the_exporter_writes_and_the_path_comes_back(request_: ExportRequest, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    assert finish(export(request_, TextExporter(), path, Options())) == Exported(path)
    assert path.read_text() == "exported"


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_the_base_is_never_overwritten_by_whatever_link(
    request_: ExportRequest, tmp_path: Path, link: Callable[[Path, Path], None]
) -> None:
    path = tmp_path / "out.txt"
    link(path, request_.base.path)
    before = request_.base.path.read_bytes()
    with pytest.raises(SaveError, match="in use"):
        finish(export(request_, TextExporter(), path, Options()))
    assert request_.base.path.read_bytes() == before


def test_no_shard_of_the_base_is_ever_overwritten(tmp_path: Path) -> None:
    writer = gguf.GGUFWriter(tmp_path / "base.gguf", "llama", split_max_tensors=1)
    for name in ("a", "b"):
        writer.add_tensor(name, np.zeros((1, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    base = open_gguf(tmp_path / "base-00001-of-00002.gguf")
    request = ExportRequest(base, {}, BASE_ALONE)
    for path in base.files:
        before = path.read_bytes()
        with pytest.raises(SaveError, match="in use"):
            finish(export(request, TextExporter(), path, Options()))
        assert path.read_bytes() == before


def test_two_exports_never_write_to_one_path(request_: ExportRequest, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    first = export(request_, TextExporter(), path, Options("first"))
    next(first)
    with pytest.raises(SaveError, match="another export"):
        finish(export(request_, TextExporter(), path, Options("second")))
    finish(first)
    assert path.read_text() == "first"
    finish(export(request_, TextExporter(), path, Options("third")))


def test_a_cancelled_export_leaves_nothing_and_frees_the_path(
    request_: ExportRequest, tmp_path: Path
) -> None:
    path = tmp_path / "out.txt"
    work = export(request_, TextExporter(), path, Options())
    next(work)
    work.close()
    assert list(tmp_path.iterdir()) == []
    finish(export(request_, TextExporter(), path, Options()))


def test_an_exporter_that_breaks_down_is_named(request_: ExportRequest, tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="exporter text: .*ZeroDivisionError"):
        finish(export(request_, BrokenExporter(), tmp_path / "out.txt", Options()))
