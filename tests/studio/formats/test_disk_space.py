"""A disk without room is told before the work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from studio.errors import SaveError
from studio.formats.disk_space import RESERVE, require_space


def test_what_fits_is_let_pass_and_what_does_not_is_refused(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    require_space(tmp_path / "a.gguf", max(0, min(1000, free - 2 * RESERVE)))
    with pytest.raises(SaveError, match="MB free"):
        require_space(tmp_path / "a.gguf", 2 * free)


def test_a_folder_that_is_not_there_is_left_to_the_writer(tmp_path: Path) -> None:
    require_space(tmp_path / "missing" / "a.gguf", 1)
