"""A model as large as a real one with random weights, for what depends on sizes alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

if TYPE_CHECKING:
    from pathlib import Path

LAYERS, WIDTH, INNER, HEADS, GROUPS, HEAD_SIZE, VOCABULARY = 16, 2048, 8192, 32, 8, 64, 32_000
BLOCK, BLOCK_BYTES = 256, 144
"""Of Q4_K: values and bytes."""


def write_billion(path: Path) -> int:
    """Write a llama of a billion Q4_K weights, one tensor in memory at a time; return how many it has."""
    random = np.random.default_rng(0)
    writer = GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_block_count, LAYERS),
        (writer.add_context_length, 2048),
        (writer.add_embedding_length, WIDTH),
        (writer.add_feed_forward_length, INNER),
        (writer.add_head_count, HEADS),
        (writer.add_head_count_kv, GROUPS),
        (writer.add_vocab_size, VOCABULARY),
    ):
        add(value)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10_000.0)
    shapes = tensor_shapes()
    for name, shape in shapes.items():
        kind = GGMLQuantizationType.Q4_K if len(shape) == 2 else GGMLQuantizationType.F32
        writer.add_tensor_info(name, shape, np.dtype(np.float32), nbytes_of(shape), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for shape in shapes.values():
        writer.write_tensor_data(random_tensor(random, shape))
    writer.close()
    return sum(int(np.prod(shape)) for shape in shapes.values())


def tensor_shapes() -> dict[str, tuple[int, ...]]:
    """Return the shapes of all tensors by name."""
    keys = GROUPS * HEAD_SIZE
    shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, WIDTH)}
    for layer in range(LAYERS):
        of_layer: dict[str, tuple[int, ...]] = {
            "attn_norm": (WIDTH,),
            "attn_q": (WIDTH, WIDTH),
            "attn_k": (keys, WIDTH),
            "attn_v": (keys, WIDTH),
            "attn_output": (WIDTH, WIDTH),
            "ffn_norm": (WIDTH,),
            "ffn_gate": (INNER, WIDTH),
            "ffn_up": (INNER, WIDTH),
            "ffn_down": (WIDTH, INNER),
        }
        shapes |= {f"blk.{layer}.{name}.weight": shape for name, shape in of_layer.items()}
    return shapes | {"output_norm.weight": (WIDTH,)}


def nbytes_of(shape: tuple[int, ...]) -> int:
    """Return how many bytes a tensor takes: matrices are Q4_K, vectors F32."""
    count = int(np.prod(shape))
    return count // BLOCK * BLOCK_BYTES if len(shape) == 2 else 4 * count


def random_tensor(random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Make a norm of ones, or random blocks with scales that keep activations within bounds."""
    if len(shape) == 1:
        return np.ones(shape, np.float32)
    blocks = random.integers(0, 256, (shape[0], shape[1] // BLOCK, BLOCK_BYTES), np.uint8)
    scales = np.full((*blocks.shape[:2], 2), 1e-4, np.float16)  # of the scales, and of the minima
    scales[..., 1] = 7.5e-4
    blocks[..., :4] = scales.view(np.uint8)
    return blocks.reshape(shape[0], -1)
