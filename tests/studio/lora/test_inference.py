"""Logits of a base and a stack, without a session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.errors import EngineError
from studio.formats.gguf_file import GgufFile
from studio.loading import load_adapter
from studio.lora.inference import Inference
from studio.lora.stack import LoraStack


def test_a_stack_is_heard_as_it_stands(smollm2: GgufFile, adapters_dir: Path, reference: list[Any]) -> None:
    stack = LoraStack()
    case = next(case for case in reference if len(case.scales) == 3)
    for name, scale in case.scales.items():
        stack.push(load_adapter(adapters_dir / name, smollm2), scale)
    with Inference(smollm2, "numpy") as inference:
        logits = inference.forward(case.tokens, stack)
        assert np.linalg.norm(logits - case.logits) < 1e-4 * np.linalg.norm(case.logits)
        alone = inference.forward(case.tokens)
        stack.set_master(0)
        np.testing.assert_array_equal(inference.forward(case.tokens, stack), alone)
    with pytest.raises(EngineError, match="no base is open"):
        inference.forward(case.tokens)
