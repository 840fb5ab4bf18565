"""What a merge is calibrated on: a text of the user's, cut to windows, or what the blend itself writes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from studio.contracts import BASE_ALONE, ExportRequest
from studio.errors import EngineError, FormatError
from studio.formats.gguf_file import GgufFile
from studio.jobs.calibrating import own_windows, text_windows


@pytest.fixture(scope="module")
def smollm2(smollm2_path: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(smollm2_path)
    yield base
    base.close()


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\xff"])
def test_what_is_no_calibration_text_is_refused(smollm2: GgufFile, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "text"
    path.write_bytes(data)
    with pytest.raises(FormatError, match="text"):
        text_windows(smollm2, path)
    with pytest.raises(FormatError, match="cannot be read"):
        text_windows(smollm2, tmp_path / "none")


def test_a_text_is_cut_into_windows_of_one_pass(smollm2: GgufFile, tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("the quick brown fox " * 200, encoding="utf-8")
    windows = text_windows(smollm2, path)
    assert [len(window) for window in windows[:-1]] == [256] * (len(windows) - 1)
    assert sum(len(window) for window in windows) == 801


def test_a_model_without_a_first_token_cannot_write_its_own(smollm2: GgufFile) -> None:
    request = ExportRequest(_WithoutTokens(smollm2), {}, BASE_ALONE)
    with pytest.raises(EngineError, match="Give a calibration text"):
        list(own_windows(request, 0))


class _WithoutTokens:
    """A base that does not say which token begins a text."""

    def __init__(self, base: GgufFile) -> None:
        self._base = base
        self.metadata = {key: value for key, value in base.metadata.items() if not key.endswith("_token_id")}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._base, name)
