"""A model that llama.cpp's own gguf-split has cut up opens as the one it was made of."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_shards import open_gguf

pytestmark = pytest.mark.peers


@pytest.fixture
def gguf_split(peers_python: str) -> str:
    """The tool, on the search path or beside the peers' Python; llama-cpp-python does not build it."""
    places = os.pathsep.join([str(Path(peers_python).parent), os.environ.get("PATH", "")])
    tool = shutil.which("llama-gguf-split", path=places)
    if tool is None:
        pytest.skip("there is no llama-gguf-split")
    return tool


@pytest.mark.parametrize("options", [["--split-max-tensors", "100"], ["--split-max-size", "40M"]])
@pytest.mark.parametrize("first", [[], ["--no-tensor-first-split"]])
def test_its_shards_open_as_the_whole(
    gguf_split: str, smollm2_path: Path, tmp_path: Path, options: list[str], first: list[str]
) -> None:
    command = [gguf_split, "--split", *options, *first, str(smollm2_path), str(tmp_path / "split")]
    subprocess.run(command, check=True, capture_output=True)
    paths = sorted(tmp_path.iterdir())
    assert len(paths) >= 3
    whole, model = GgufFile.open(smollm2_path), open_gguf(paths[1])
    assert model.files == tuple(paths)
    assert list(model.metadata) == list(whole.metadata)
    assert dict(model.tensors) == dict(whole.tensors)
    for name in whole.tensors:
        np.testing.assert_array_equal(model.raw(name), whole.raw(name))
    whole.close()
    model.close()
