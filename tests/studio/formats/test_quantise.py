"""Storing rows: as the type's own reader has them back, and never with what would spoil a block."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from gguf import GGMLQuantizationType, quants

from studio.formats.dequantise import dequantise
from studio.formats.ggml_types import GGML_TYPES_BY_NAME
from studio.formats.quantise import can_quantise, quantise, unstorable


def relative_error(type_name: str) -> float:
    rows = np.random.default_rng(1).standard_normal((16, 512), np.float32)
    stored = quantise(rows, type_name)
    kind = GGML_TYPES_BY_NAME[type_name]
    assert stored.shape == (16, kind.row_bytes(512))
    difference = dequantise(stored, kind.number).astype(np.float64) - rows
    return float(np.linalg.norm(difference) / np.linalg.norm(rows))


@pytest.mark.parametrize(
    ("type_name", "bound"),
    [
        ("F32", 1e-12),
        ("F16", 5e-4),
        ("BF16", 4e-3),
        ("Q8_0", 0.008),
        ("Q6_K", 0.025),
        ("Q5_1", 0.05),
        ("Q4_K", 0.09),
        ("IQ4_NL", 0.09),
        ("Q3_K", 0.2),
        ("Q2_K", 0.35),
        ("IQ2_XS", 0.4),
    ],
)
def test_what_is_stored_comes_back_as_near_as_the_type_can(type_name: str, bound: float) -> None:
    error = relative_error(type_name)
    assert error < bound
    assert bound < 1e-3 or error > bound / 3  # the bounds say something


@pytest.mark.parametrize("type_name", ["Q8_0", "Q4_0", "Q5_1", "BF16"])
def test_bytes_are_those_of_the_gguf_package(type_name: str) -> None:
    rows = np.random.default_rng(2).standard_normal((8, 256), np.float32)
    expected = quants.quantize(rows, GGMLQuantizationType[type_name]).view(np.uint8)
    np.testing.assert_array_equal(quantise(rows, type_name), expected.reshape(8, -1))


def test_an_importance_matrix_makes_important_columns_more_exact() -> None:
    rows = np.random.default_rng(3).standard_normal((64, 256), np.float32)
    importance = np.ones(256, np.float32)
    importance[:16] = 1000

    def error(stored: np.ndarray[tuple[int, int], np.dtype[np.uint8]]) -> float:
        values = dequantise(stored, GGML_TYPES_BY_NAME["Q4_K"].number)
        return float(np.linalg.norm((values - rows)[:, :16]))

    assert error(quantise(rows, "Q4_K", importance)) < 0.95 * error(quantise(rows, "Q4_K"))


def test_many_threads_may_begin_with_a_type_at_once() -> None:
    """The tables of IQ3_S are made at its first use; here, in a process of its own, by eight threads."""
    script = (
        "import numpy as np\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from studio.formats.quantise import quantise\n"
        "rows = np.ones((4, 256), np.float32)\n"
        "with ThreadPoolExecutor(8) as pool:\n"
        "    list(pool.map(lambda _: quantise(rows, 'IQ3_S'), range(64)))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_width_must_be_a_whole_number_of_blocks() -> None:
    assert can_quantise("Q8_0", 96)
    assert not can_quantise("Q8_0", 100)
    assert not can_quantise("Q4_K", 576)
    assert can_quantise("F16", 7)
    assert not can_quantise("I32", 32)


@pytest.mark.parametrize(
    ("value", "type_name", "problem"),
    [
        (np.nan, "Q8_0", "1 values are not finite"),
        (-np.inf, "F32", "1 values are not finite"),
        (65_520, "F16", "1 values are too large for F16"),
        (-70_000, "Q4_0", "1 values are too large for Q4_0"),
        (65_519, "F16", None),
        (1e30, "BF16", None),
    ],
)
def test_what_cannot_be_stored_is_counted(value: float, type_name: str, problem: str | None) -> None:
    rows = np.zeros((2, 32), np.float32)
    rows[1, 5] = value
    assert unstorable(rows, type_name) == problem
