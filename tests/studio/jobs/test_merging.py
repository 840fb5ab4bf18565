"""Merging: the file answers as the live blend does, keeps what it should, and is written whole."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, BlendState, Combination, ExportRequest, FloatArray, Progress
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.errors import MismatchError, SaveError, StudioError, UnsupportedError
from studio.formats import gguf_stream
from studio.formats.disk_space import RESERVE
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_packing import pack_metadata
from studio.formats.gguf_stream import TensorSlot, streaming_gguf
from studio.formats.gguf_writer import write_gguf
from studio.formats.quantise import can_quantise, quantise
from studio.jobs import calibrating
from studio.jobs.merge_options import Merged, MergeOptions
from studio.jobs.merging import merge
from studio.lora.adapter import Adapter, LoraFactors
from studio.lora.dora import DoraAdapter
from studio.lora.report import bind
from studio.lora.stack import LoraStack
from studio.session.next_token import divergence, log_softmax

TOKENS = list(range(3, 60))


def finish(work: Any) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def store_as(base: GgufFile, path: Path, type_name: str) -> GgufFile:
    """Write the base again, every matrix in a type."""
    slots = {}
    for name, info in base.tensors.items():
        changes = len(info.shape) > 1 and "norm" not in name and can_quantise(type_name, info.shape[-1])
        slots[name] = TensorSlot(info.shape, type_name if changes else info.type_name)
    values = {key: base.raw_metadata(key) for key in base.metadata}
    with streaming_gguf(path, values, slots) as stream:
        for name, slot in slots.items():
            stream.put(name, 0, quantise(base.dense(name).reshape(-1, slot.shape[-1]), slot.type_name))
        finish(stream.verify())
    return GgufFile.open(path)


def adapter_of(base: GgufFile, modules: list[str], strength: float = 0.03) -> Adapter:
    """Make an adapter of rank 2 whose deltas are that strong beside the weights."""
    rng = np.random.default_rng(5)
    factors = {}
    for module in modules:
        *experts, out, width = base.tensors.get(module, base.tensors["token_embd.weight"]).shape
        a = rng.standard_normal((*experts, 2, width), np.float32)
        b = rng.standard_normal((*experts, out, 2), np.float32)
        source = module if module in base.tensors else "token_embd.weight"
        b *= np.float32(strength * base.dense(source).std() / 2)
        factors[module] = LoraFactors(a, b, alpha=4)
    return Adapter("a", factors)


def request_of(base: GgufFile, *adapters: Adapter, scale: float = 0.5) -> ExportRequest:
    stack = LoraStack()
    for adapter in adapters:
        stack.push(adapter, scale)
    return ExportRequest(base, stack.by_key, stack.blend)


def logits(base: GgufFile, request: ExportRequest | None, state: BlendState = BASE_ALONE) -> FloatArray:
    engine = LocalEngine(choose_backend("numpy"), "dense")
    engine.open(base)
    engine.attach(request.adapters if request else {})
    found = engine.evaluate(TOKENS, state, positions="all").logits
    engine.close()
    return found


def relative(request: ExportRequest, path: Path) -> float:
    """Return how far the merged file's logits are from the live blend's."""
    assert isinstance(request.base, GgufFile)
    live = logits(request.base, request, request.state)
    with_file = GgufFile.open(path)
    merged = logits(with_file, None)
    with_file.close()
    return float(np.linalg.norm(merged - live) / np.linalg.norm(live))


Open = Callable[[str], GgufFile]


@pytest.fixture(scope="module")
def open_base(data_dir: Path) -> Iterator[Open]:
    opened: dict[str, GgufFile] = {}

    def open_(name: str) -> GgufFile:
        if name not in opened:
            opened[name] = GgufFile.open(data_dir / "architectures" / f"{name}.gguf")
        return opened[name]

    yield open_
    for base in opened.values():
        base.close()


@pytest.fixture(scope="module")
def quantised(open_base: Open, tmp_path_factory: pytest.TempPathFactory) -> Iterator[GgufFile]:
    """The tiny llama in Q4_1."""
    base = store_as(open_base("llama"), tmp_path_factory.mktemp("q") / "llama-q4_1.gguf", "Q4_1")
    yield base
    base.close()


def linear_modules(base: GgufFile) -> list[str]:
    return [
        name for name in base.tensors if name.startswith("blk.") and "norm" not in name and "bias" not in name
    ]


@pytest.mark.parametrize(
    ("type_name", "bound"), [("F32", 1e-5), ("F16", 2e-3), ("BF16", 2e-2), ("Q8_0", 2e-2)]
)
def test_it_answers_as_the_live_blend_does(
    open_base: Open, tmp_path: Path, type_name: str, bound: float
) -> None:
    base = open_base("llama")
    request = request_of(
        base, adapter_of(base, linear_modules(base)), adapter_of(base, linear_modules(base)[:4])
    )
    merged: Merged = finish(merge(request, tmp_path / "out.gguf", MergeOptions(type=type_name)))
    assert relative(request, merged.path) < bound
    assert (merged.kept != ()) == (type_name == "Q8_0")


@pytest.mark.parametrize("name", ["mixtral", "phi3", "gpt2", "qwen2"])
def test_experts_fused_weights_and_embeddings_are_merged(open_base: Open, tmp_path: Path, name: str) -> None:
    base = open_base(name)
    modules = [
        module
        for module in linear_modules(base)
        if "inp" not in module and len(base.tensors[module].shape) > 1
    ]
    request = request_of(base, adapter_of(base, [*modules, "token_embd.weight"]))
    finish(merge(request, tmp_path / "out.gguf", MergeOptions(type="F32")))
    assert relative(request, tmp_path / "out.gguf") < 1e-5


def test_an_adapter_on_a_tied_output_gets_an_output_of_its_own(open_base: Open, tmp_path: Path) -> None:
    base = open_base("qwen2")
    assert "output.weight" not in base.tensors
    request = request_of(base, adapter_of(base, ["output.weight"]))
    finish(merge(request, tmp_path / "out.gguf", MergeOptions(type="F32")))
    with_output = GgufFile.open(tmp_path / "out.gguf")
    assert list(with_output.tensors)[:2] == ["token_embd.weight", "output.weight"]
    np.testing.assert_array_equal(with_output.dense("token_embd.weight"), base.dense("token_embd.weight"))
    changed = with_output.dense("output.weight") - base.dense("token_embd.weight")
    with_output.close()
    (factors,) = request.adapters["a"].factors.values()  # type: ignore[attr-defined]
    wanted = 0.5 * factors.scaling * factors.b @ factors.a
    np.testing.assert_allclose(changed, wanted, atol=1e-6)


@pytest.mark.parametrize("module", ["token_embd.weight", "output.weight"])
def test_an_architecture_without_an_output_of_its_own_is_refused(
    open_base: Open, tmp_path: Path, module: str
) -> None:
    base = open_base("gemma2")
    with pytest.raises(UnsupportedError, match=rf"{module}: the blend tells embedding and output apart"):
        finish(merge(request_of(base, adapter_of(base, [module])), tmp_path / "out.gguf", MergeOptions()))


def test_what_is_untouched_is_copied_to_the_bit(quantised: GgufFile, tmp_path: Path) -> None:
    module = "blk.0.ffn_up.weight"
    request = request_of(quantised, adapter_of(quantised, [module]))
    finish(merge(request, tmp_path / "out.gguf", MergeOptions(rounding="unbiased")))
    merged = GgufFile.open(tmp_path / "out.gguf")
    for name, info in quantised.tensors.items():
        assert merged.tensors[name] == info
        assert np.array_equal(merged.raw(name), quantised.raw(name)) == (name != module)
    for key in quantised.metadata:
        if key not in ("general.file_type", "general.quantization_version"):
            assert merged.raw_metadata(key) == quantised.raw_metadata(key)
    merged.close()


def test_where_it_came_from_stands_in_the_file(quantised: GgufFile, tmp_path: Path) -> None:
    adapter = adapter_of(quantised, linear_modules(quantised))
    request = request_of(quantised, adapter)
    finish(merge(request, tmp_path / "out.gguf", MergeOptions(type="Q8_0", rounding="unbiased", seed=7)))
    merged = GgufFile.open(tmp_path / "out.gguf")
    assert merged.metadata["general.file_type"] == 7
    assert merged.metadata["general.quantization_version"] == 2
    said = {
        key.removeprefix("lora_studio.merge."): value
        for key, value in merged.metadata.items()
        if key.startswith("lora_studio.merge.")
    }
    merged.close()
    assert str(said.pop("base_fingerprint")).startswith("sha256-head:")
    assert said == {
        "base": "llama-q4_1.gguf",
        "adapters": ["a"],
        "adapter_fingerprints": [""],
        "scales": ["0.5"],
        "gains": ["{}"],
        "method": "sum",
        "method_options": "",
        "rounding": "unbiased",
        "seed": 7,
    }


def effect_lost(request: ExportRequest, path: Path) -> float:
    """Return KL(live || merged) as a share of KL(live || base)."""
    assert isinstance(request.base, GgufFile)
    live = logits(request.base, request, request.state)
    merged = GgufFile.open(path)
    found = logits(merged, None)
    merged.close()
    alone = logits(request.base, None)

    def distance(other: FloatArray) -> float:
        pairs = zip(live, other, strict=True)
        return float(np.mean([divergence(log_softmax(one), log_softmax(two)) for one, two in pairs]))

    return distance(found) / distance(alone)


def test_rounding_keeps_the_blend_or_not(quantised: GgufFile, tmp_path: Path) -> None:
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised), 0.05))
    kept, lost = {}, {}
    for rounding in ("nearest", "unbiased", "auto"):
        options = MergeOptions(rounding=rounding)
        merged = finish(merge(request, tmp_path / "out.gguf", options))
        kept[merged.rounding] = float(np.median([module.kept for module in merged.kept]))
        lost[merged.rounding] = effect_lost(request, merged.path)
    assert kept["nearest"] < 0.5
    assert kept["unbiased"] == pytest.approx(1, abs=0.1)
    assert kept["calibrated"] == pytest.approx(1, abs=0.1)  # what auto is where the base runs
    assert lost["calibrated"] < 0.5 * lost["unbiased"]


def test_a_budget_is_held_and_used(quantised: GgufFile, tmp_path: Path) -> None:
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised), 0.05))
    lost, types = [], []
    for budget in (1.0, 1.3):
        options = MergeOptions(rounding="unbiased", budget=budget)
        merged = finish(merge(request, tmp_path / f"{budget}.gguf", options))
        lost.append(effect_lost(request, merged.path))
        types.append({module.type_name for module in merged.kept})
    assert merged.path.stat().st_size <= 1.3 * quantised.file_size
    assert types[0] == {"Q4_1"}
    assert types[1] & {"Q5_1", "Q8_0"}
    assert lost[1] < 0.7 * lost[0]


def test_the_seed_decides(quantised: GgufFile, tmp_path: Path) -> None:
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised)))
    data = []
    for number, seed in enumerate([1, 1, 2]):
        path = tmp_path / f"{number}.gguf"
        finish(merge(request, path, MergeOptions(rounding="unbiased", seed=seed)))
        data.append(path.read_bytes())
    assert data[0] == data[1]
    assert data[0] != data[2]


def test_a_text_can_be_calibrated_on(quantised: GgufFile, tmp_path: Path, monkeypatch: Any) -> None:
    asked = []

    def windows(base: Any, path: Path) -> list[tuple[int, ...]]:
        asked.append(path)
        return [tuple(range(3, 90))]

    monkeypatch.setattr("studio.jobs.merging.text_windows", windows)
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised)))
    options = MergeOptions(calibration=str(tmp_path / "text.txt"))
    merged = finish(merge(request, tmp_path / "out.gguf", options))
    assert asked == [tmp_path / "text.txt"]
    assert all(module.as_heard for module in merged.kept)
    assert np.median([module.kept for module in merged.kept]) == pytest.approx(1, abs=0.15)


def test_a_base_that_does_not_run_is_rounded_without_calibration(
    quantised: GgufFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: ExportRequest, seed: int) -> Any:
        yield Progress(0, 1)
        raise UnsupportedError("the architecture cannot run")

    monkeypatch.setattr("studio.jobs.merging.own_windows", refuse)
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised)))
    merged = finish(merge(request, tmp_path / "out.gguf", MergeOptions()))
    assert merged.rounding == "unbiased"
    assert "the architecture cannot run" in merged.notes[0]
    with pytest.raises(UnsupportedError):
        finish(merge(request, tmp_path / "out.gguf", MergeOptions(rounding="calibrated")))


def test_a_type_without_an_even_grid_is_noted(open_base: Open, tmp_path: Path) -> None:
    base = store_as(open_base("llama"), tmp_path / "iq4_nl.gguf", "IQ4_NL")
    request = request_of(base, adapter_of(base, linear_modules(base)))
    merged = finish(merge(request, tmp_path / "out.gguf", MergeOptions(rounding="unbiased")))
    base.close()
    assert merged.notes[0].startswith("IQ4_NL has no even grid")


def test_dora_is_merged_as_it_is_heard(open_base: Open, tmp_path: Path) -> None:
    base = open_base("llama")
    low_rank = adapter_of(base, ["blk.0.attn_q.weight", "blk.1.ffn_down.weight"])
    magnitudes = {name: 1.1 * np.linalg.norm(base.dense(name), axis=1) for name in low_rank.factors}
    bound, _ = bind(DoraAdapter(low_rank, magnitudes), base)
    request = request_of(base, bound, adapter_of(base, linear_modules(base)))  # type: ignore[arg-type]
    finish(merge(request, tmp_path / "out.gguf", MergeOptions(type="F32")))
    assert relative(request, tmp_path / "out.gguf") < 1e-5


class Doubled:
    """A method of combining that leaves a dense delta."""

    name = "doubled"
    Options = dict

    def combine(self, module: str, parts: Any, options: Any) -> FloatArray:
        return np.asarray(sum(2 * part.scale * part.b @ part.a for part in parts), np.float32)


def test_a_method_of_combining_is_taken_whole(open_base: Open, tmp_path: Path) -> None:
    base = open_base("llama")
    request = request_of(base, adapter_of(base, linear_modules(base)))
    combined = replace(request, combination=Combination(Doubled(), {}))
    finish(merge(combined, tmp_path / "out.gguf", MergeOptions(type="F32")))
    (channel,) = request.state.channels
    twice = replace(request, state=BlendState((replace(channel, scale=2 * channel.scale),)))
    assert relative(twice, tmp_path / "out.gguf") < 1e-5


def test_a_model_in_several_files_becomes_one(open_base: Open, tmp_path: Path) -> None:
    from studio.formats.gguf_shards import open_gguf

    base = open_base("llama")
    names = list(base.tensors)
    half = len(names) // 2
    for number, part in enumerate((names[:half], names[half:])):
        split: dict[str, Any] = {
            "split.no": np.uint16(number),
            "split.count": np.uint16(2),
            "split.tensors.count": np.int32(len(names)),
        }
        kept = base.metadata if number == 0 else {"general.architecture": "llama"}
        packed = {key: base.raw_metadata(key) for key in kept}
        packed |= {
            key: value.to_bytes()
            for key, value in pack_metadata({"general.architecture": "llama", **split}, tmp_path).items()
        }
        slots = {name: TensorSlot(base.tensors[name].shape, base.tensors[name].type_name) for name in part}
        path = tmp_path / f"model-0000{number + 1}-of-00002.gguf"
        with streaming_gguf(path, packed, slots) as stream:
            for name in part:
                stream.put(name, 0, base.raw(name))
            finish(stream.verify())
    sharded = open_gguf(tmp_path / "model-00001-of-00002.gguf")
    request = request_of(base, adapter_of(base, linear_modules(base)))
    merged = finish(merge(replace(request, base=sharded), tmp_path / "out.gguf", MergeOptions(type="F32")))
    sharded.close()
    assert relative(request, merged.path) < 1e-5
    joined = GgufFile.open(merged.path)
    assert not any(key.startswith("split.") for key in joined.metadata)
    joined.close()


@pytest.mark.parametrize(("value", "said"), [(1e9, "too large for F16"), (np.inf, "not finite")])
def test_a_weight_that_does_not_fit_its_type_is_named(
    open_base: Open, tmp_path: Path, value: float, said: str
) -> None:
    base = open_base("llama")
    module = "blk.1.ffn_up.weight"
    size = np.float32(3e38 if value == np.inf else value)
    factors = LoraFactors(np.full((2, 64), 2, np.float32), np.full((96, 2), size), alpha=2)
    request = request_of(base, Adapter("a", {module: factors}), scale=1.0)
    with pytest.raises(SaveError, match=rf"blk\.1\.ffn_up\.weight: of its merged weights .*{said}"):
        finish(merge(request, tmp_path / "out.gguf", MergeOptions(type="F16")))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("rounding", ["unbiased", "calibrated"])
def test_cancelling_leaves_nothing_and_is_quick(
    smollm2_path: Path, tmp_path: Path, rounding: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(calibrating, "OWN_TEXTS", 1)
    monkeypatch.setattr(calibrating, "OWN_TOKENS", 16)
    base = GgufFile.open(smollm2_path)
    request = request_of(base, adapter_of(base, [f"blk.{layer}.ffn_up.weight" for layer in range(3)]))
    work = merge(request, tmp_path / "out.gguf", MergeOptions(rounding=rounding))
    phases = set()
    while "Merging blk.0.ffn_up.weight" not in phases:
        phases.add(next(work).message)
    started = time.perf_counter()
    work.close()
    took = time.perf_counter() - started
    base.close()
    assert os.listdir(tmp_path) == []
    assert took < 5  # a second on a quiet machine; the bound is for a busy one


def test_a_disk_that_fills_up_leaves_the_old_file(
    quantised: GgufFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(self: Any, name: str, first_row: int, data: Any) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "out.gguf"
    path.write_bytes(b"old")
    monkeypatch.setattr(gguf_stream.GgufStream, "put", fail)
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised)))
    with pytest.raises(SaveError, match="No space left on device"):
        finish(merge(request, path, MergeOptions(type="F16")))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["out.gguf"]


def test_the_base_is_never_overwritten(quantised: GgufFile) -> None:
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised)))
    with pytest.raises(SaveError, match="in use"):
        finish(merge(request, quantised.path, MergeOptions(type="F16")))


def test_a_silent_blend_is_refused(quantised: GgufFile, tmp_path: Path) -> None:
    with pytest.raises(StudioError, match="silent"):
        finish(merge(request_of(quantised), tmp_path / "out.gguf", MergeOptions()))


def test_an_importance_matrix_is_used_and_must_fit(quantised: GgufFile, tmp_path: Path) -> None:
    modules = linear_modules(quantised)
    request = request_of(quantised, adapter_of(quantised, modules))

    def merged_with(width: int | None, values: Any = None) -> bytes:
        matrix = ""
        if width is not None:
            tensors = {}
            for module in modules:
                size = quantised.tensors[module].shape[-1] if width == 0 else width
                tensors[f"{module}.in_sum2"] = np.linspace(0, 100, size, dtype=np.float32)[None]
                tensors[f"{module}.counts"] = np.ones((1, 1), np.float32)
            write_gguf(tmp_path / "imatrix.gguf", {"general.architecture": "llama"}, tensors)
            matrix = str(tmp_path / "imatrix.gguf")
        path = tmp_path / "out.gguf"
        finish(merge(request, path, MergeOptions(type="Q4_0", imatrix=matrix)))
        return path.read_bytes()

    assert merged_with(0) != merged_with(None)
    with pytest.raises(MismatchError, match="has 7 inputs for it, and it has"):
        merged_with(7)


def test_what_an_option_does_not_do_is_told(quantised: GgufFile, tmp_path: Path) -> None:
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised)))
    tensors = {"blk.0.attn_q.weight.in_sum2": np.ones((1, 64), "f4")}
    tensors["blk.0.attn_q.weight.counts"] = np.ones((1, 1), "f4")
    write_gguf(tmp_path / "imatrix.gguf", {"general.architecture": "llama"}, tensors)
    (tmp_path / "text.txt").write_text("the quick brown fox")
    options = MergeOptions(rounding="unbiased", imatrix=str(tmp_path / "imatrix.gguf"))
    merged = finish(merge(request, tmp_path / "out.gguf", options))
    assert merged.notes[0] == "No weight gets a new grid: the importance matrix was not needed."
    options = MergeOptions(type="F16", calibration=str(tmp_path / "text.txt"))
    merged = finish(merge(request, tmp_path / "out.gguf", options))
    assert merged.notes[0] == "No weight is rounded that could be calibrated: the text was not read."
    with pytest.raises(StudioError, match="nearest rounding reads no calibration text"):
        finish(merge(request, tmp_path / "out.gguf", replace(options, rounding="nearest")))


def test_the_room_for_a_larger_type_is_asked_for_before_the_work(
    quantised: GgufFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = request_of(quantised, adapter_of(quantised, linear_modules(quantised)))
    free = quantised.file_size + RESERVE + 1000  # as much as the base takes: too little for twice its bits
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free))
    work = merge(request, tmp_path / "out.gguf", MergeOptions(type="Q8_0", rounding="calibrated"))
    with pytest.raises(SaveError, match="MB free"):
        next(work)
