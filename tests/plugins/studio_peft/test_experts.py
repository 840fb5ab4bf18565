"""Adapters on experts, as older and newer versions of transformers name them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.api import Adapter, FormatError, GgufFile, MismatchError, StudioError, UnsupportedError
from studio.lora.report import bind
from studio_peft.loader import PeftLoader, PeftOptions

Arrays = dict[str, np.ndarray[Any, Any]]
SmallBase = Callable[..., GgufFile]
WritePeft = Callable[..., Path]

MLP = "base_model.model.model.layers.1.mlp"
GATE, UP, DOWN = (f"blk.1.ffn_{part}_exps.weight" for part in ("gate", "up", "down"))
EXPERTS, RANK, INNER, WIDTH = 3, 2, 24, 16


def load(folder: Path, base: GgufFile | None) -> Adapter:
    adapter = PeftLoader().load(folder, base, PeftOptions())
    assert isinstance(adapter, Adapter)
    return adapter


def pair(module: str, a: tuple[int, int], b: tuple[int, int]) -> Arrays:
    rng = np.random.default_rng([*module.encode()])
    return {
        f"{module}.lora_A.weight": rng.standard_normal(a, np.float32),
        f"{module}.lora_B.weight": rng.standard_normal(b, np.float32),
    }


def flat_pairs() -> Arrays:
    return pair(f"{MLP}.experts.base_layer", (EXPERTS * RANK, WIDTH), (2 * INNER, RANK * EXPERTS)) | pair(
        f"{MLP}.experts", (EXPERTS * RANK, INNER), (WIDTH, RANK * EXPERTS)
    )


def separate_pairs(part: str = "up_proj") -> Arrays:
    tensors: Arrays = {}
    for expert in range(EXPERTS):
        tensors |= pair(f"{MLP}.experts.{expert}.{part}", (RANK, WIDTH), (INNER, RANK))
    return tensors


def dense(adapter: Adapter, module: str) -> Any:
    factors = adapter.factors[module]
    return factors.scaling * factors.b @ factors.a


def test_flat_pairs_are_taken_apart_as_peft_does(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    tensors = flat_pairs()
    parameters = ["gate_up_proj", "down_proj"]
    write_peft(tmp_path, tensors, target_parameters=parameters, alpha_pattern={"gate_up_proj": 6})
    adapter, report = bind(load(tmp_path, small_base()), small_base())
    assert (set(adapter.modules), report.unmatched) == ({GATE, UP, DOWN}, ())

    def delta(module: str, scaling: float) -> Any:
        a, b = tensors[f"{module}.lora_A.weight"], tensors[f"{module}.lora_B.weight"]
        a, b = a.reshape(EXPERTS, RANK, -1), b.reshape(-1, RANK, EXPERTS)
        return scaling * np.einsum("ore,eri->eoi", b, a)

    gate_up, down = delta(f"{MLP}.experts.base_layer", 3.0), delta(f"{MLP}.experts", 2.0)
    for module, wanted in ((GATE, gate_up[:, :INNER]), (UP, gate_up[:, INNER:]), (DOWN, down)):
        np.testing.assert_allclose(dense(adapter, module), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("rank", [3, 4])
def test_a_flat_pair_of_another_rank_is_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, rank: int
) -> None:
    write_peft(tmp_path, flat_pairs(), target_parameters=["gate_up_proj", "down_proj"], r=rank)
    with pytest.raises(FormatError, match=f"rank {rank} for 3 experts"):
        load(tmp_path, small_base())


def test_a_flat_pair_for_other_experts_is_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path
) -> None:
    tensors = pair(f"{MLP}.experts", (EXPERTS * RANK, INNER + 1), (WIDTH, RANK * EXPERTS))
    write_peft(tmp_path, tensors, target_parameters=["down_proj"])
    with pytest.raises(MismatchError, match="fit no experts"):
        load(tmp_path, small_base())


def test_flat_pairs_are_listed_where_nothing_says_how_many_experts_there_are(
    write_peft: WritePeft, tmp_path: Path
) -> None:
    write_peft(tmp_path, flat_pairs(), target_parameters=["gate_up_proj", "down_proj"])
    assert set(load(tmp_path, None).unmapped) == {
        "model.layers.1.mlp.experts",
        "model.layers.1.mlp.experts.base_layer",
    }


@pytest.mark.parametrize("with_base", [True, False])
def test_pairs_of_single_experts_are_put_together(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, with_base: bool
) -> None:
    tensors = separate_pairs()
    write_peft(tmp_path, tensors)
    adapter = load(tmp_path, small_base() if with_base else None)
    for expert in range(EXPERTS):
        module = f"{MLP}.experts.{expert}.up_proj"
        wanted = 2 * tensors[f"{module}.lora_B.weight"] @ tensors[f"{module}.lora_A.weight"]
        np.testing.assert_allclose(dense(adapter, UP)[expert], wanted, rtol=1e-5)


@pytest.mark.parametrize("fault", ["an expert is missing", "ranks differ"])
def test_experts_that_are_not_adapted_alike_are_refused(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, fault: str
) -> None:
    tensors, ranks = separate_pairs(), {}
    middle = f"{MLP}.experts.1.up_proj"
    if fault == "ranks differ":
        tensors |= pair(middle, (1, WIDTH), (INNER, 1))
        ranks = {"experts.1.up_proj": 1}
    else:
        tensors = {key: tensor for key, tensor in tensors.items() if not key.startswith(middle)}
    write_peft(tmp_path, tensors, rank_pattern=ranks)
    with pytest.raises(UnsupportedError, match="not adapted alike"):
        load(tmp_path, small_base())


@pytest.mark.parametrize("value", ["down_proj", [5]])
def test_target_parameters_must_be_a_list_of_names(
    small_base: SmallBase, write_peft: WritePeft, tmp_path: Path, value: object
) -> None:
    write_peft(tmp_path, separate_pairs(), target_parameters=value)
    with pytest.raises(StudioError, match="list of names"):
        load(tmp_path, small_base())
