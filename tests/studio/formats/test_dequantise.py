"""Every storage type turns into the same numbers as in the `gguf` package, to the bit."""

from __future__ import annotations

import gguf
import libgguf
import numpy as np
import pytest

from studio.errors import UnsupportedError
from studio.formats.dequantise import PLAIN_DTYPES, dequantise, dequantise_into
from studio.formats.ggml_types import GGML_TYPES, GGML_TYPES_BY_NAME

NEVER_STORED = {"Q8_1", "Q8_K"}
ONLY_HERE = {"Q1_0"}  # the gguf package reads it from its next version on
BLOCK_TYPES = sorted(GGML_TYPES_BY_NAME.keys() - PLAIN_DTYPES.keys() - NEVER_STORED - ONLY_HERE)


@pytest.mark.parametrize("name", BLOCK_TYPES)
def test_blocks_equal_the_gguf_package(name: str) -> None:
    kind = GGML_TYPES_BY_NAME[name]
    # Any bytes are blocks, some of them with a scale that is not finite.
    stored = np.random.default_rng(3).integers(0, 256, (2, 3, kind.row_bytes(1024)), np.uint8)
    values = dequantise(stored, kind.number)
    with np.errstate(all="ignore"):
        expected = gguf.quants.dequantize(stored, gguf.GGMLQuantizationType(kind.number))
    assert values.shape == (2, 3, 1024)
    np.testing.assert_array_equal(values, expected, strict=True)


@pytest.mark.parametrize("name", ["Q4_0", "Q4_1", "Q5_1", "Q8_0", "Q4_K", "Q6_K", "Q1_0"])
def test_blocks_come_close_to_the_weights_they_were_made_of(name: str) -> None:
    kind = GGML_TYPES_BY_NAME[name]
    weights = np.random.default_rng(3).standard_normal((4, 512), np.float32)
    values = dequantise(libgguf.quantize_rows(weights, kind.number), kind.number)
    assert np.linalg.norm(values - weights) < (0.1 if name != "Q1_0" else 0.7) * np.linalg.norm(weights)


@pytest.mark.parametrize("name", PLAIN_DTYPES)
def test_plain_numbers_keep_their_value(name: str) -> None:
    stored = np.array([[0, 1, -3], [4, 100, -128]], PLAIN_DTYPES[name])
    kind = GGML_TYPES_BY_NAME[name]
    assert kind.row_bytes(3) == stored[0].nbytes
    values = dequantise(stored.view(np.uint8), kind.number)
    np.testing.assert_array_equal(values, np.array([[0, 1, -3], [4, 100, -128]], np.float32), strict=True)


@pytest.mark.parametrize("name", sorted(NEVER_STORED))
def test_types_that_files_do_not_hold_are_refused(name: str) -> None:
    kind = GGML_TYPES_BY_NAME[name]
    with pytest.raises(UnsupportedError, match=name):
        dequantise(np.zeros((1, kind.block_bytes), np.uint8), kind.number)


def test_bytes_that_do_not_fit_are_refused_before_native_code_sees_them() -> None:
    kind = GGML_TYPES_BY_NAME["Q4_1"]
    with pytest.raises(ValueError, match="do not hold"):
        dequantise_into(np.zeros((2, 20), np.uint8), kind.number, np.empty((3, 32), np.float32))


def test_sizes_agree_with_the_gguf_package() -> None:
    theirs = {
        int(kind): sizes for kind, sizes in gguf.GGML_QUANT_SIZES.items() if kind.name not in NEVER_STORED
    }
    ours = {n: (k.block_size, k.block_bytes) for n, k in GGML_TYPES.items() if k.name not in NEVER_STORED}
    assert ours == theirs
