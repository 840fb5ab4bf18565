"""How the weights lie in memory: what is chosen, how exact it is, and what happens when it is full."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.engine.residency import size_of
from studio.errors import EngineError, FormatError

Make = Callable[..., Any]
TOKENS = [3, 17, 0, 39, 5, 5, 21]
WIDE = {"width": 256, "heads": 4, "head_size": 64, "inner": 512}
LIMITS = {"dense": 1e-4, "float16": 2e-3, "quantised": 1e-4}
MIXTURE = ["Q4_K", "Q6_K", "Q8_0", "BF16", "Q4_0", "Q5_1", "F16"]


def relative(found: Any, expected: Any) -> float:
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


def logits_on(backend: str, base: Any, residency: Any) -> Any:
    engine = LocalEngine(choose_backend(backend), residency)
    engine.open(base)
    logits = engine.evaluate(TOKENS, BASE_ALONE).logits
    engine.close()
    return logits


@pytest.mark.usefixtures("strict_device")
@pytest.mark.parametrize("residency", LIMITS)
@pytest.mark.parametrize("shape", [{}, {"tied": False}, {"biased": True}])
def test_a_device_computes_the_same_in_every_residency(
    tiny_base: Make, stored_base: Make, residency: str, shape: dict[str, bool]
) -> None:
    base = stored_base(tiny_base(**WIDE, **shape), *MIXTURE)
    expected = logits_on("numpy", base, "dense")
    assert relative(logits_on("cupy", base, residency), expected) < LIMITS[residency]


@pytest.mark.gpu
@pytest.mark.parametrize("residency", LIMITS)
def test_a_real_device_computes_the_same_in_every_residency(
    cuda_device: str, tiny_base: Make, stored_base: Make, residency: str
) -> None:
    base = stored_base(tiny_base(**WIDE, biased=True), *MIXTURE)
    expected = logits_on("numpy", base, "dense")
    assert relative(logits_on(cuda_device, base, residency), expected) < LIMITS[residency]


@pytest.mark.parametrize(
    ("megabytes", "kind"), [(100, "float32"), (8, "float32"), (7, "float16"), (3, "quantised")]
)
def test_auto_takes_the_most_exact_that_leaves_room_on_the_device(
    strict_device: Any, tiny_base: Make, stored_base: Make, megabytes: int, kind: str
) -> None:
    base = stored_base(tiny_base(**WIDE), "Q4_K")
    assert [size_of(base, one) // 100_000 for one in ("dense", "float16", "quantised")] == [47, 23, 6]
    strict_device.total = megabytes * 1_000_000
    engine = LocalEngine(choose_backend("cupy"))
    engine.open(base)
    assert f"; weights {kind}, " in engine.description


def test_auto_falls_to_smaller_weights_where_the_memory_runs_out(
    strict_device: Any, tiny_base: Make, stored_base: Make
) -> None:
    """Another program may take what was free; each kind is tried twice, for the pool is freed between."""
    base = stored_base(tiny_base(**WIDE), "Q4_K")
    engine = LocalEngine(choose_backend("cupy"))
    strict_device.failures = [strict_device.cuda.memory.OutOfMemoryError("full")] * 2
    engine.open(base)
    assert "; weights float16, 2 MB" in engine.description
    strict_device.failures = [strict_device.cuda.memory.OutOfMemoryError("full")] * 4
    engine.open(base)
    assert "; weights quantised, 1 MB" in engine.description
    expected = engine.evaluate(TOKENS, BASE_ALONE).logits
    strict_device.failures = [strict_device.cuda.memory.OutOfMemoryError("full")] * 6
    with pytest.raises(EngineError, match="the GPU's memory ran out"):
        engine.open(base)
    np.testing.assert_array_equal(engine.evaluate(TOKENS, BASE_ALONE).logits, expected)


def test_what_was_asked_for_is_not_made_smaller(
    strict_device: Any, tiny_base: Make, stored_base: Make
) -> None:
    strict_device.total = 5_000_000
    with pytest.raises(EngineError, match="the GPU's memory ran out"):
        LocalEngine(choose_backend("cupy"), "dense").open(stored_base(tiny_base(**WIDE), "Q4_K"))


@pytest.mark.usefixtures("strict_device")
def test_a_damaged_weight_is_found_on_the_device(tiny_base: Make, stored_base: Make) -> None:
    base = stored_base(tiny_base(**WIDE), "F16")
    base.arrays["blk.1.ffn_up.weight"][3, 4] = np.inf
    with pytest.raises(FormatError, match="blk.1.ffn_up.weight: it holds NaN or infinite"):
        LocalEngine(choose_backend("cupy"), "quantised").open(base)


def test_the_cpu_takes_no_float16(tiny_base: Make) -> None:
    with pytest.raises(EngineError, match="NumPy takes no float16 weights. Choose dense or quantised"):
        LocalEngine(choose_backend("numpy"), "float16").open(tiny_base())
