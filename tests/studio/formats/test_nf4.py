"""NF4 with double quantisation."""

from __future__ import annotations

from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest

from studio.formats.nf4 import QUANTILES, SCALE_VALUES, nf4_bytes, quantise_nf4


def test_it_is_that_of_bitsandbytes_bit_for_bit(data_dir: Path) -> None:
    with np.load(data_dir / "reference" / "nf4.npz") as reference:
        np.testing.assert_array_equal(QUANTILES, reference["table"])
        np.testing.assert_array_equal(SCALE_VALUES, reference["scale_table"])
        tensor = quantise_nf4(reference["values"].astype(np.float32))
        np.testing.assert_array_equal(tensor.codes, reference["codes"])
        np.testing.assert_array_equal(tensor.scales, reference["scales"])
        np.testing.assert_array_equal(tensor.scale_maxima, reference["scale_maxima"])
        assert tensor.offset == reference["offset"]
        np.testing.assert_array_equal(tensor.dense(), reference["dequantised"].ravel())


def test_its_values_are_quantiles_of_the_normal_distribution() -> None:
    # Dettmers et al. 2023, section 3: 8 quantiles of the negative half and 9 of the positive one share 0;
    # the outermost, at the offset that the authors' code gives, are -1 and 1.
    inverse, offset = NormalDist().inv_cdf, 0.9677083
    negative = [-inverse(p) for p in np.linspace(offset, 0.5, 8)]
    positive = [inverse(p) for p in np.linspace(0.5, offset, 9)]
    quantiles = np.array([*negative, *positive[1:]]) / positive[-1]
    np.testing.assert_allclose(QUANTILES, quantiles, atol=2e-6)


@pytest.mark.parametrize("shape", [(7, 576), (5, 80), (3,), (2, 3, 64), (300, 300)])
def test_values_come_back_as_near_as_two_quantisations_let_them(shape: tuple[int, ...]) -> None:
    values = np.random.default_rng(3).standard_normal(shape, dtype=np.float32)
    tensor = quantise_nf4(values)
    assert tensor.nbytes == nf4_bytes(shape)
    padded = np.zeros(-(-values.size // 64) * 64)
    padded[: values.size] = values.ravel()
    blocks = padded.reshape(-1, 64)  # float64
    largest = np.abs(blocks).max(axis=1)
    nearest = np.abs((blocks / largest[:, None])[..., None] - QUANTILES.astype(np.float64)).argmin(axis=-1)
    offset = largest.mean()
    scales = np.repeat(
        [np.abs(part - offset).max() for part in np.split(largest, range(256, len(largest), 256))], 256
    )[: len(largest)]
    wanted = (largest - offset) / np.where(scales > 0, scales, 1)
    stored = SCALE_VALUES[np.abs(wanted[:, None] - SCALE_VALUES.astype(np.float64)).argmin(axis=-1)]
    expected = QUANTILES[nearest] * (stored * scales + offset)[:, None]
    np.testing.assert_allclose(tensor.dense().ravel(), expected.ravel()[: values.size], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("width", [64, 80])
def test_rows_are_those_of_the_whole(width: int) -> None:
    tensor = quantise_nf4(np.random.default_rng(4).standard_normal((2, 50, width), dtype=np.float32))
    whole = tensor.dense().reshape(100, width)
    for rows in (slice(0, 100), slice(3, 17), slice(99, 100), slice(5, 5)):
        np.testing.assert_array_equal(tensor.rows(rows), whole[rows])


def test_a_weight_takes_little_more_than_four_bits() -> None:
    assert nf4_bytes((1536, 576)) * 8 / (1536 * 576) == pytest.approx(4.127, abs=0.001)


def test_zeros_stay_zeros() -> None:
    assert not quantise_nf4(np.zeros((4, 64), np.float32)).dense().any()
