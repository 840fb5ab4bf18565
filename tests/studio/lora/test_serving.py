"""How an export is used elsewhere."""

from __future__ import annotations

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from studio.errors import SaveError
from studio.lora.serving import llama_server_command, modelfile_text, write_modelfile


def test_the_command_line_survives_a_shell() -> None:
    command = llama_server_command(Path("/my models/it's.gguf"), Path("/a b/$HOME.gguf"))
    assert shlex.split(command) == [
        "llama-server",
        "-m",
        "/my models/it's.gguf",
        "--lora",
        "/a b/$HOME.gguf",
    ]
    assert llama_server_command(Path("merged.gguf")) == "llama-server -m merged.gguf"


def test_a_modelfile_names_the_base_and_the_adapter() -> None:
    assert modelfile_text(Path("/m/base.gguf"), Path("/m/blend v1.gguf")).splitlines() == [
        "# Written by LoRA Studio",
        "FROM /m/base.gguf",
        "ADAPTER /m/blend v1.gguf",
    ]
    assert "ADAPTER" not in modelfile_text(Path("/m/merged.gguf"))
    assert 'FROM "/m/odd\nname.gguf"' in modelfile_text(Path("/m/odd\nname.gguf"))


def test_it_is_written_beside_the_export_and_never_over_somebody_elses(tmp_path: Path) -> None:
    base: Any = SimpleNamespace(path=Path("base.gguf"))
    adapter = tmp_path / "blend.gguf"
    for _ in range(2):  # the second time over our own
        path = write_modelfile(adapter, base, adapter=adapter)
    assert path == tmp_path / "Modelfile"
    assert path.read_text().splitlines()[1:] == [f"FROM {Path('base.gguf').absolute()}", f"ADAPTER {adapter}"]
    path.write_text("FROM mine\n")
    with pytest.raises(SaveError, match="there is one already"):
        write_modelfile(adapter, base, adapter=adapter)
    assert path.read_text() == "FROM mine\n"
