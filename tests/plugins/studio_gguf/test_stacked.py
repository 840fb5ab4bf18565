"""The exported blend is the blend, in a file that llama.cpp reads."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from hypothesis import given, settings
from hypothesis import strategies as st

from studio.api import (
    Adapter,
    BlendChannel,
    BlendState,
    DoraAdapter,
    ExportRequest,
    FloatArray,
    GgufFile,
    LoraFactors,
    MismatchError,
    SaveError,
    StudioError,
    UnsupportedError,
    write_gguf,
)
from studio.lora.report import bind
from studio.lora.stack import LoraStack
from studio_gguf.adapter import GgufAdapterLoader, GgufAdapterOptions
from studio_gguf.stacked import StackedExporter, StackedOptions

SmallBase = Callable[..., GgufFile]

MODULES = {
    "token_embd.weight": (32, 16),
    "blk.0.attn_q.weight": (16, 16),
    "blk.0.ffn_up.weight": (24, 16),
    "blk.1.ffn_down.weight": (16, 24),
    "blk.1.ffn_up_exps.weight": (3, 24, 16),
    "output.weight": (32, 16),
}


def make_adapter(modules: dict[str, int], *, stabilised: bool = False, seed: int = 0, **more: Any) -> Adapter:
    """Make an adapter of random numbers: rank by module."""
    rng = np.random.default_rng(seed)
    factors = {
        module: LoraFactors(
            rng.standard_normal((*MODULES[module][:-2], rank, MODULES[module][-1]), np.float32),
            rng.standard_normal((*MODULES[module][:-1], rank), np.float32),
            alpha=seed + 3,
            rank_stabilised=stabilised,
        )
        for module, rank in modules.items()
    }
    return Adapter(f"adapter{seed}", factors, **more)


def export(base: GgufFile, stack: LoraStack, path: Path, options: StackedOptions | None = None) -> None:
    request = ExportRequest(base, stack.by_key, stack.blend)
    for _ in StackedExporter().export(request, path, options or StackedOptions()):
        pass


def reload(path: Path, base: GgufFile) -> Adapter:
    return bind(GgufAdapterLoader().load(path, base, GgufAdapterOptions()), base)[0]


def error_of(adapter: Adapter, stack: LoraStack, module: str, shape: tuple[int, ...]) -> float:
    """Compare the deltas of a loaded export and of the stack, relative to the stack's."""
    inputs = np.random.default_rng(9).standard_normal((*shape[:-2], 4, shape[-1]), np.float32)
    expected = stack.apply(module, inputs, shape[-2])
    found = adapter.delta(module, inputs)
    assert found is not None
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))


@pytest.fixture
def stack() -> LoraStack:
    """Two adapters of different ranks that share a module."""
    stack = LoraStack()
    stack.push(make_adapter({"blk.0.attn_q.weight": 2, "blk.0.ffn_up.weight": 3}, seed=1), 0.8)
    stack.push(
        make_adapter({"blk.0.attn_q.weight": 4, "token_embd.weight": 1}, seed=2, stabilised=True), -0.5
    )
    return stack


# That it is the blend


members = st.dictionaries(st.sampled_from(sorted(MODULES)), st.integers(1, 6), min_size=1)
scales = st.floats(0.001, 4) | st.floats(-4, -0.001)


@settings(max_examples=25, deadline=None)
@given(adapters=st.lists(st.tuples(members, scales, st.booleans()), min_size=1, max_size=4), master=scales)
def test_any_blend_comes_back_as_it_went(
    small_base: SmallBase,
    tmp_path_factory: pytest.TempPathFactory,
    adapters: list[tuple[dict[str, int], float, bool]],
    master: float,
) -> None:
    base, stack = small_base(), LoraStack()
    stack.set_master(master)
    for seed, (modules, scale, stabilised) in enumerate(adapters):
        stack.push(make_adapter(modules, stabilised=stabilised, seed=seed), scale)
    path = tmp_path_factory.mktemp("export") / "stacked.gguf"
    export(base, stack, path)
    adapter = reload(path, base)
    assert set(adapter.modules) == {module for modules, _, _ in adapters for module in modules}
    for module in adapter.modules:
        assert error_of(adapter, stack, module, MODULES[module]) < 1e-5


@pytest.mark.parametrize(("kind", "bound"), [("F32", 1e-6), ("F16", 1e-3), ("BF16", 8e-3), ("Q8_0", 1e-2)])
@pytest.mark.parametrize("master", [1.0, 1e-5, 1e5])
def test_real_adapters_keep_their_blend(
    smollm2: GgufFile, data_dir: Path, tmp_path: Path, kind: Any, bound: float, master: float
) -> None:
    """F16 holds 11 bits, whatever the size of the scales: alpha carries the size."""
    fortune = reload(data_dir / "smollm2-fortune-f16.gguf", smollm2)
    stack = LoraStack()
    stack.set_master(master)
    stack.push(fortune, 0.8)
    stack.push(fortune, -0.3)
    export(smollm2, stack, tmp_path / "stacked.gguf", StackedOptions(kind))
    adapter = reload(tmp_path / "stacked.gguf", smollm2)
    worst = max(
        error_of(adapter, stack, module, smollm2.tensors[module].shape) for module in adapter.modules[::7]
    )
    assert worst < bound


def test_muted_members_are_left_out(small_base: SmallBase, stack: LoraStack, tmp_path: Path) -> None:
    stack.set_muted("adapter1", True)
    export(small_base(), stack, tmp_path / "stacked.gguf")
    adapter = reload(tmp_path / "stacked.gguf", small_base())
    assert set(adapter.modules) == {"blk.0.attn_q.weight", "token_embd.weight"}
    assert adapter.rank("blk.0.attn_q.weight") == 4


# That llama.cpp reads it


def test_keys_names_and_shapes_are_llama_cpps(
    small_base: SmallBase, stack: LoraStack, tmp_path: Path
) -> None:
    export(small_base(), stack, tmp_path / "stacked.gguf")
    reader = GGUFReader(tmp_path / "stacked.gguf")
    values = {key: field.contents() for key, field in reader.fields.items()}
    assert values["general.type"] == "adapter"
    assert values["general.architecture"] == "llama"
    assert values["adapter.type"] == "lora"
    assert values["adapter.lora.alpha"] != 0
    assert reader.fields["adapter.lora.alpha"].types[0].name == "FLOAT32"
    assert values["general.name"] == "adapter1*0.8 + adapter2*-0.5"
    assert values["lora_studio.stack.sources"] == ["adapter1", "adapter2"]
    assert values["lora_studio.stack.scales"] == ["0.8", "-0.5"]
    assert values["lora_studio.stack.gains"] == ["{}", "{}"]
    assert values["lora_studio.stack.method"] == "sum"
    shapes = {tensor.name: tuple(int(size) for size in reversed(tensor.shape)) for tensor in reader.tensors}
    assert shapes == {
        "token_embd.weight.lora_a": (32, 1),  # (vocab, rank): the other way up
        "token_embd.weight.lora_b": (16, 1),
        "blk.0.attn_q.weight.lora_a": (6, 16),
        "blk.0.attn_q.weight.lora_b": (16, 6),
        "blk.0.ffn_up.weight.lora_a": (3, 16),
        "blk.0.ffn_up.weight.lora_b": (24, 3),
    }


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16"])
def test_all_tensors_have_the_chosen_type(
    small_base: SmallBase, stack: LoraStack, tmp_path: Path, kind: Any
) -> None:
    export(small_base(), stack, tmp_path / "stacked.gguf", StackedOptions(kind))
    reader = GGUFReader(tmp_path / "stacked.gguf")
    assert {tensor.tensor_type.name for tensor in reader.tensors} == {kind}


def test_q8_0_is_for_rows_of_whole_blocks(smollm2: GgufFile, data_dir: Path, tmp_path: Path) -> None:
    """As in llama.cpp's converter, what does not divide into blocks of 32 is F16: B, whose rows are ranks."""
    stack = LoraStack()
    stack.push(reload(data_dir / "smollm2-fortune-f16.gguf", smollm2))
    export(smollm2, stack, tmp_path / "stacked.gguf", StackedOptions("Q8_0"))
    types = {
        tensor.name[-6:]: tensor.tensor_type.name for tensor in GGUFReader(tmp_path / "stacked.gguf").tensors
    }
    assert types == {"lora_a": "Q8_0", "lora_b": "F16"}


def test_a_uniform_rank_means_the_same_by_any_readers_scale(
    small_base: SmallBase, stack: LoraStack, tmp_path: Path
) -> None:
    """oxillama scales by lora.alpha / lora.r, llama.cpp by alpha / the rank of the tensor."""
    export(small_base(), stack, tmp_path / "stacked.gguf", StackedOptions(uniform_rank=True))
    file = GgufFile.open(tmp_path / "stacked.gguf")
    rank, alpha = file.metadata["lora.r"], file.metadata["lora.alpha"]
    assert (rank, alpha) == (6, file.metadata["adapter.lora.alpha"])
    a, b = (file.dense(f"blk.0.ffn_up.weight.lora_{half}") for half in "ab")
    file.close()
    assert (a.shape, b.shape) == ((6, 16), (24, 6))
    x = np.random.default_rng(0).standard_normal((4, 16), np.float32)
    assert isinstance(alpha, float)
    np.testing.assert_allclose(
        alpha / 6 * x @ a.T @ b.T, stack.apply("blk.0.ffn_up.weight", x, 24), rtol=1e-4, atol=1e-5
    )
    adapter = reload(tmp_path / "stacked.gguf", small_base())
    assert adapter.ranks == (6,)
    for module in adapter.modules:
        assert error_of(adapter, stack, module, MODULES[module]) < 1e-5


def test_a_modelfile_is_written_beside_it_and_never_over_another(
    small_base: SmallBase, stack: LoraStack, tmp_path: Path
) -> None:
    path = tmp_path / "stacked.gguf"
    export(small_base(), stack, path, StackedOptions(modelfile=True))
    lines = (tmp_path / "Modelfile").read_text(encoding="utf-8").splitlines()
    assert lines[1:] == [f"FROM {small_base().path}", f"ADAPTER {path}"]
    (tmp_path / "Modelfile").write_text("FROM mine\n")
    path.unlink()
    with pytest.raises(SaveError, match="there is one already"):
        export(small_base(), stack, path, StackedOptions(modelfile=True))
    assert not path.exists()


# What it refuses


def test_a_tied_embedding_is_refused_since_llama_cpp_breaks_down_on_it(tmp_path: Path) -> None:
    keys: dict[str, Any] = {"general.architecture": "llama"}
    write_gguf(tmp_path / "tied.gguf", keys, {"token_embd.weight": np.ones((32, 16), np.float32)})
    base = GgufFile.open(tmp_path / "tied.gguf")
    stack = LoraStack()
    stack.push(make_adapter({"token_embd.weight": 2}))
    with pytest.raises(MismatchError, match="breaks down on an adapter") as caught:
        export(base, stack, tmp_path / "stacked.gguf")
    assert "Merge the blend" in str(caught.value.remedy)
    base.close()


def test_a_silent_blend_is_refused(small_base: SmallBase, stack: LoraStack, tmp_path: Path) -> None:
    stack.set_master(0)
    with pytest.raises(StudioError, match="silent"):
        export(small_base(), stack, tmp_path / "stacked.gguf")


class Opaque:
    """An adapter that does not show its factors."""

    name = "opaque"
    version = 1
    modules = ("blk.0.attn_q.weight",)

    def delta(self, module: str, inputs: FloatArray) -> FloatArray | None:
        return None


def test_an_adapter_without_factors_is_refused_by_name(
    small_base: SmallBase, stack: LoraStack, tmp_path: Path
) -> None:
    key = stack.push_adapter(Opaque())
    with pytest.raises(UnsupportedError, match="opaque shows no low-rank factors"):
        export(small_base(), stack, tmp_path / "stacked.gguf")
    stack.set_muted(key, True)
    export(small_base(), stack, tmp_path / "stacked.gguf")


def test_an_adapter_of_another_base_is_refused(small_base: SmallBase, tmp_path: Path) -> None:
    base = small_base()
    for module, shape in (("blk.0.attn_q.weight", (5, 5)), ("blk.7.attn_q.weight", (16, 16))):
        pair = LoraFactors(np.ones((1, shape[1]), np.float32), np.ones((shape[0], 1), np.float32), 1)
        adapter = Adapter("foreign", {module: pair})
        request = ExportRequest(base, {"foreign": adapter}, BlendState((BlendChannel("foreign", 1, 1.0),)))
        with pytest.raises(MismatchError, match="foreign"):
            list(StackedExporter().export(request, tmp_path / "stacked.gguf", StackedOptions()))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("link", [None, os.symlink, os.link], ids=["itself", "symlink", "hard link"])
def test_neither_the_base_nor_an_adapter_is_overwritten(
    small_base: SmallBase, tmp_path: Path, link: Callable[[Path, Path], None] | None
) -> None:
    base = small_base()
    source, folder = tmp_path / "source.gguf", tmp_path / "peft"
    source.write_bytes(b"an adapter")
    folder.mkdir()
    (folder / "adapter_model.safetensors").write_bytes(b"another")
    stack = LoraStack()
    stack.push(make_adapter({"blk.0.attn_q.weight": 1}, source=source))
    stack.push(make_adapter({"blk.0.attn_q.weight": 1}, source=folder))
    for number, protected in enumerate((base.path, source, folder / "adapter_model.safetensors")):
        target, content = protected, protected.read_bytes()
        if link is not None:
            target = base.path.with_name(f"link{number}") if link is os.link else tmp_path / f"link{number}"
            link(protected, target)
        with pytest.raises(SaveError, match="in use"):
            export(base, stack, target)
        assert protected.read_bytes() == content


def test_dora_is_no_stack_and_the_ways_out_are_told(small_base: SmallBase, tmp_path: Path) -> None:
    base, module = small_base(), "blk.0.attn_q.weight"
    magnitudes = {module: np.ones(16, np.float32)}
    bound, _ = bind(DoraAdapter(make_adapter({module: 2}), magnitudes), base)
    stack = LoraStack()
    stack.push(bound)
    with pytest.raises(UnsupportedError, match="DoRA") as caught:
        export(base, stack, tmp_path / "stacked.gguf")
    assert "Merge" in str(caught.value.remedy) and "svd" in str(caught.value.remedy)
    assert not (tmp_path / "stacked.gguf").exists()


# Cancelling


def test_closing_it_at_any_step_leaves_the_old_file_alone(
    small_base: SmallBase, stack: LoraStack, tmp_path: Path
) -> None:
    target = tmp_path / "stacked.gguf"
    target.write_bytes(b"old")
    request = ExportRequest(small_base(), stack.by_key, stack.blend)
    steps = sum(1 for _ in StackedExporter().export(request, tmp_path / "count.gguf", StackedOptions()))
    (tmp_path / "count.gguf").unlink()
    for stop in range(1, steps - 1):
        work = StackedExporter().export(request, target, StackedOptions())
        for _ in range(stop):
            next(work)
        work.close()
        assert target.read_bytes() == b"old"
        assert list(tmp_path.iterdir()) == [target]


def test_progress_only_rises(small_base: SmallBase, stack: LoraStack, tmp_path: Path) -> None:
    request = ExportRequest(small_base(), stack.by_key, stack.blend)
    steps = list(StackedExporter().export(request, tmp_path / "stacked.gguf", StackedOptions()))
    assert [step.done for step in steps] == sorted(step.done for step in steps)
    assert len({step.total for step in steps}) == 1
    assert steps[-1].done == steps[-1].total
