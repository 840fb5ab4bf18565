"""Layers whose weights are in NF4."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from studio.formats.gguf_file import GgufFile
from studio.formats.nf4 import Nf4Tensor, quantise_nf4
from studio.lora.injection import inject_lora
from studio.lora.layers import BaseLayers, DifferentiableLayer, LinearLayer
from studio.lora.linear import LoraLinear
from studio.lora.nf4_linear import Nf4Linear, quantise_layers

Q, K = "blk.0.attn_q.weight", "blk.0.attn_k.weight"


@pytest.fixture
def base(data_dir: Path) -> Iterator[GgufFile]:
    base = GgufFile.open(data_dir / "architectures" / "llama.gguf")
    yield base
    base.close()


def test_the_layers_of_a_base_turn_into_nf4(base: GgufFile) -> None:
    model = BaseLayers(base)
    inject_lora(model, 2, 4.0, ["attn_k"])
    quantise_layers(model)
    assert isinstance(model.layers[K], LoraLinear)
    layer = model.layers[Q]
    assert isinstance(layer, Nf4Linear) and isinstance(layer, LinearLayer | DifferentiableLayer)
    weight = base.dense(Q)
    np.testing.assert_array_equal(layer.weight, quantise_nf4(weight).dense())
    assert 0 < np.linalg.norm(layer.weight - weight) < 0.15 * np.linalg.norm(weight)
    quantise_layers(model)
    assert model.layers[Q] is layer


def test_it_computes_with_its_weight_and_lora_keeps_it_small(base: GgufFile) -> None:
    model = BaseLayers(base)
    quantise_layers(model)
    layer = model.layers[Q]
    assert isinstance(layer, Nf4Linear)
    out, width = layer.tensor.shape
    inputs = np.random.default_rng(1).standard_normal((3, width), dtype=np.float32)
    gradients = np.random.default_rng(2).standard_normal((3, out), dtype=np.float32)
    np.testing.assert_allclose(layer.forward_batch(inputs), inputs @ layer.weight.T, rtol=1e-6)
    np.testing.assert_allclose(layer.backward(gradients, inputs), gradients @ layer.weight, rtol=1e-6)
    inject_lora(model, 2, 4.0, ["attn_q"])
    wrapped = model.layers[Q]
    assert isinstance(wrapped, LoraLinear) and isinstance(wrapped._stored, Nf4Tensor)
    np.testing.assert_array_equal(wrapped.forward_batch(inputs), layer.forward_batch(inputs))
