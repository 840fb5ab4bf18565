"""Training beside PEFT: the same data in the same order from the same adapter gives the same curve."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.demo import demo
from benchmarks.training_sides import open_training
from studio.learning.options import LoraOptions
from studio.registry import load_plugins

pytestmark = pytest.mark.peers

STEPS, LENGTH = 50, 256
DOCUMENTS = Path(__file__).parents[2] / "docs"


def test_the_curve_of_fifty_steps_is_pefts(peers_python: str) -> None:
    plugins = load_plugins()
    options = LoraOptions(steps=STEPS, learning_rate=1e-3, schedule="constant", warm_up=0.0, shuffle=False)
    text = "\n\n".join(path.read_text(encoding="utf-8") for path in sorted(DOCUMENTS.glob("*.md")))
    with demo(plugins) as opened:
        tokens = opened.tokenizer.encode(text)[: STEPS * LENGTH]
        sequences = [tokens[first : first + LENGTH] for first in range(0, len(tokens), LENGTH)]
        with open_training(peers_python, opened.base, plugins, sequences, options) as (ours, theirs):
            steps = [(ours.step(), theirs.step()) for _ in range(STEPS)]
    losses = np.array([[own.loss, their.loss] for own, their in steps])
    norms = np.array([[own.norm, their.norm] for own, their in steps])
    assert losses[-10:, 0].mean() < 0.97 * losses[:10, 0].mean()  # it learnt how this is written
    np.testing.assert_allclose(losses[0, 0], losses[0, 1], rtol=1e-5)
    np.testing.assert_allclose(norms[0, 0], norms[0, 1], rtol=1e-4)
    np.testing.assert_allclose(losses[:, 0], losses[:, 1], rtol=0.01)
    np.testing.assert_allclose(norms[:, 0], norms[:, 1], rtol=0.1)
