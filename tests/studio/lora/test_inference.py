"""Logits of a base and a stack, without a session."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.errors import EngineError, MismatchError
from studio.formats.gguf_file import GgufFile
from studio.loading import load_adapter
from studio.lora.creation import create_adapter
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


def test_a_sequence_grows_in_its_cache(smollm2: GgufFile, adapters_dir: Path) -> None:
    stack = LoraStack()
    key = stack.push(load_adapter(adapters_dir / "smollm2-fortune", smollm2))
    with Inference(smollm2, "numpy") as inference:
        cache = inference.create_kv_cache()
        inference.forward_cache(cache, [504, 3575, 282], stack)
        grown = inference.forward_cache(cache, [4649, 314], stack)
        assert cache.tokens == (504, 3575, 282, 4649, 314)
        whole = inference.forward(cache.tokens, stack)
        assert np.linalg.norm(grown - whole) < 1e-5 * np.linalg.norm(whole)
        stack.set_scale(key, 0.25)  # heard in what is cached, too
        changed = inference.forward_cache(cache, [253], stack)
    with Inference(smollm2, "numpy") as fresh:
        expected = fresh.forward(cache.tokens, stack)
    assert np.linalg.norm(changed - expected) < 1e-5 * np.linalg.norm(expected)


def test_a_pool_gives_the_same_logits_in_the_same_memory(smollm2: GgufFile, adapters_dir: Path) -> None:
    stack = LoraStack()
    key = stack.push(load_adapter(adapters_dir / "smollm2-legal", smollm2))
    tokens = [504, 3575, 282, 4649, 314]
    with Inference(smollm2, "numpy") as inference:
        pool = inference.create_memory_pool()
        for scale in (1.0, -0.5):
            stack.set_scale(key, scale)
            pooled = inference.forward_pool(pool, tokens, stack)
            np.testing.assert_allclose(pooled, inference.forward(tokens, stack), rtol=1e-4, atol=1e-4)
        size = pool.nbytes
        inference.forward_pool(pool, tokens[::-1])
        assert pool.nbytes == size > 0
        pool.clear()
        assert pool.nbytes == 0


def test_sequences_of_any_lengths_are_one_batch(smollm2: GgufFile, adapters_dir: Path) -> None:
    stack = LoraStack()
    stack.push(load_adapter(adapters_dir / "smollm2-python", smollm2))
    sequences = [[504, 3575, 282, 4649, 314], [504], [253, 314]]
    with Inference(smollm2, "numpy") as inference:
        together = inference.forward_batch(sequences, stack)
        for sequence, logits in zip(sequences, together, strict=True):
            alone = inference.forward(sequence, stack)
            assert np.linalg.norm(logits - alone) < 1e-5 * np.linalg.norm(alone)


def test_backward_fills_the_gradient_storage(data_dir: Path) -> None:
    base = GgufFile.open(data_dir / "architectures" / "llama.gguf")
    adapter = create_adapter(base, rank=2, alpha=4, targets=["attn_q", "ffn_down"], seed=1)
    stack = LoraStack()
    key = stack.push(adapter)
    tokens = [3, 1, 4, 1, 5, 9, 2, 6]
    with Inference(base, "numpy") as inference:
        before = inference.backward(tokens, stack, key)
        gradients = {module: adapter.get_weight(module, "b").gradient.copy() for module in adapter.modules}
        inference.backward(tokens, stack, key)
        for module, gradient in gradients.items():
            np.testing.assert_allclose(adapter.get_weight(module, "b").gradient, 2 * gradient, rtol=1e-5)
            assert not adapter.get_weight(module, "a").gradient.any()  # while B is zero
        square = sum(float(np.square(gradient).sum()) for gradient in gradients.values())
        step = 0.01 / square  # so that the loss falls by one hundredth of a nat
        for module, pair in adapter.factors.items():
            adapter.replace(module, replace(pair, b=pair.b - np.float32(step) * gradients[module]))
        assert before - inference.backward(tokens, stack, key) == pytest.approx(0.01, rel=0.05)
        with pytest.raises(MismatchError, match="other: the stack has no adapter"):
            inference.backward(tokens, stack, "other")
    base.close()
