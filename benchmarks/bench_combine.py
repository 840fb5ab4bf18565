"""Combine three adapters of SmolLM2, ranks 8, 12 and 16, by svd to rank 8 in all 210 modules."""

from __future__ import annotations

import json
import math
import tempfile
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from safetensors.numpy import save_file

from benchmarks.peer_process import PeerProcess
from benchmarks.rounds import NewScales, interleave, milliseconds
from benchmarks.row import Row
from studio.contracts import DeltaPart
from studio.lora.algebra import singular_values, svd
from studio.lora.combining import concatenate

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from benchmarks.run import Run
    from studio.contracts import FloatArray

    Factors = dict[str, tuple[FloatArray, FloatArray]]

RANKS = (8, 12, 16)
ALPHA = 16
TO_RANK = 8
ROUNDS = 3
LAYERS, WIDTH, KEYS, HIDDEN = 30, 576, 192, 1536
SIZES = {
    "hidden_size": WIDTH,
    "intermediate_size": HIDDEN,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": 9,
    "num_key_value_heads": 3,
}
"""SmolLM2-135M's, as transformers calls them."""

SHAPES = {
    "self_attn.q_proj": (WIDTH, WIDTH),
    "self_attn.k_proj": (KEYS, WIDTH),
    "self_attn.v_proj": (KEYS, WIDTH),
    "self_attn.o_proj": (WIDTH, WIDTH),
    "mlp.gate_proj": (HIDDEN, WIDTH),
    "mlp.up_proj": (HIDDEN, WIDTH),
    "mlp.down_proj": (WIDTH, HIDDEN),
}
PEER = Path(__file__).parent / "peers" / "peft_combine.py"


def main(run: Run) -> None:
    """Report the time, and both sides' errors over the least that rank can have."""
    adapters = [random_adapter(rank, seed) for seed, rank in enumerate(RANKS)]
    conditions = {"adapters": len(RANKS), "modules": LAYERS * len(SHAPES)}
    with ExitStack() as stack:
        works: list[Callable[[Sequence[float]], float]] = [partial(time_ours, adapters)]
        peer = None
        if run.peers:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            folders = [write_peft(one, rank, folder) for one, rank in zip(adapters, RANKS, strict=True)]
            peer = PeerProcess("PEFT", run.peers, PEER)
            stack.callback(peer.close)
            peer.ask("open", sizes=SIZES, adapters=folders)
            works.append(partial(time_theirs, peer))
        new_scales, scales = NewScales(), [0.0]

        def draw() -> list[float]:
            scales[:] = new_scales(len(RANKS))
            return scales

        times = interleave(run.rounds or ROUNDS, draw, works, warm_up=1)
        run.report(Row("combine, svd to rank 8", "ms", conditions, times, against="PEFT"))

        least = least_error(adapters, scales)
        errors = [[our_error(adapters, scales) / least]]
        if peer is not None:  # what it combined last it holds still
            errors.append([peer.ask("error", weights=scales)["error"] / least])
        run.report(Row("combine, error over the least", "x", conditions, errors, against="PEFT"))


def random_adapter(rank: int, seed: int) -> Factors:
    """Return factors of random numbers by Hugging Face module."""
    random = np.random.default_rng(seed)
    return {
        f"model.layers.{layer}.{target}": (
            random.standard_normal((rank, inputs), np.float32),
            random.standard_normal((outputs, rank), np.float32),
        )
        for layer in range(LAYERS)
        for target, (outputs, inputs) in SHAPES.items()
    }


def parts_of(adapters: Sequence[Factors], module: str, scales: Sequence[float]) -> list[DeltaPart]:
    """Return the adapters' shares of one module."""
    return [
        DeltaPart(*adapter[module], scale * ALPHA / rank, scale)
        for adapter, scale, rank in zip(adapters, scales, RANKS, strict=True)
    ]


def combine(adapters: Sequence[Factors], scales: Sequence[float]) -> dict[str, DeltaPart]:
    """Combine all modules as the method svd does."""
    return {
        module: svd(module, parts_of(adapters, module, scales), rank=TO_RANK, energy=1.0)
        for module in adapters[0]
    }


def time_ours(adapters: Sequence[Factors], scales: Sequence[float]) -> float:
    """Combine: milliseconds."""
    return milliseconds(lambda: combine(adapters, scales))


def time_theirs(peer: PeerProcess, scales: Sequence[float]) -> float:
    """Combine by add_weighted_adapter: milliseconds."""
    return float(peer.ask("svd", weights=scales, rank=TO_RANK)["milliseconds"])


def our_error(adapters: Sequence[Factors], scales: Sequence[float]) -> float:
    """Return the norm of what our combination differs from the sum of the deltas."""
    squares = 0.0
    for module, found in combine(adapters, scales).items():
        parts = parts_of(adapters, module, scales)
        exact = sum(part.scale * (part.b.astype(np.float64) @ part.a) for part in parts)
        squares += float(((found.b.astype(np.float64) @ found.a - exact) ** 2).sum())
    return math.sqrt(squares)


def least_error(adapters: Sequence[Factors], scales: Sequence[float]) -> float:
    """Return the least error a combination of that rank can have (Eckart and Young 1936)."""
    values = [singular_values(concatenate(parts_of(adapters, module, scales))) for module in adapters[0]]
    return math.sqrt(sum(float((one[TO_RANK:] ** 2).sum()) for one in values))


def write_peft(adapter: Factors, rank: int, folder: Path) -> str:
    """Write an adapter as PEFT has it, and return its folder."""
    path = folder / f"rank-{rank}"
    path.mkdir()
    targets = [target.rpartition(".")[2] for target in SHAPES]
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": ALPHA, "target_modules": targets, "bias": "none"}
    (path / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    tensors = {
        f"base_model.model.{module}.lora_{half}.weight": factor
        for module, pair in adapter.items()
        for half, factor in zip("AB", pair, strict=True)
    }
    save_file(tensors, path / "adapter_model.safetensors")
    return str(path)
