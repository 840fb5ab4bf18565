"""The proof of an export: it passes what is right and fails what is not."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from studio.contracts import BASE_ALONE, Combination, Engine, ExportRequest
from studio.engine.backend import choose_backend
from studio.engine.local import LocalEngine
from studio.errors import EngineError, FormatError, MismatchError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_writer import write_gguf
from studio.jobs.agreement import Agreement
from studio.jobs.verifying import stored_type, verify
from studio.lora.adapter import Adapter
from studio.lora.algebra import RankLimit
from studio.lora.limiting import limited
from studio.lora.stack import LoraStack
from studio.registry import Registry, load_plugins

TEXTS = [list(range(3, 40)), [7, 9, 11]]


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


@pytest.fixture(scope="module")
def base(data_dir: Path) -> Iterator[GgufFile]:
    file = GgufFile.open(data_dir / "architectures" / "llama.gguf")
    yield file
    file.close()


@pytest.fixture(scope="module")
def request_(base: GgufFile, data_dir: Path, plugins: Registry) -> ExportRequest:
    """The fixture's adapter at 0.5."""
    loader = next(one for one in plugins.adapter_loaders if one.name == "PEFT directory")
    stack = LoraStack()
    stack.push(loader.load(data_dir / "architectures" / "llama-peft", base, loader.Options()), 0.5)  # type: ignore[arg-type]
    return ExportRequest(base, stack.by_key, stack.blend)


def make_engine() -> Engine:
    return LocalEngine(choose_backend("numpy"))


def finish(work: Any) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def written(plugins: Registry, request: ExportRequest, name: str, path: Path, **options: Any) -> Path:
    exporter = next(one for one in plugins.exporters if one.name == name)
    finish(exporter.export(request, path, exporter.Options(**options)))
    return path


@pytest.mark.parametrize(
    ("name", "file", "kind"),
    [
        ("stacked adapter (GGUF)", "out.gguf", "F32"),
        ("stacked adapter (GGUF)", "out.gguf", "F16"),
        ("stacked adapter (GGUF)", "out.gguf", "BF16"),
        ("stacked adapter (GGUF)", "out.gguf", "Q8_0"),
        ("PEFT directory", "out", "F32"),
        ("PEFT directory", "out", "BF16"),
    ],
)
def test_what_was_exported_passes(
    request_: ExportRequest, plugins: Registry, tmp_path: Path, name: str, file: str, kind: str
) -> None:
    path = written(plugins, request_, name, tmp_path / file, type=kind)
    agreement: Agreement = finish(verify(request_, path, TEXTS, plugins, make_engine))
    assert agreement.passed, agreement
    assert (agreement.kind, agreement.positions) == ("adapter", 40)
    assert agreement.type_name == kind
    assert agreement.effect > 0.01 > agreement.mean_kl
    assert agreement.modules == ()


def test_another_blend_fails(request_: ExportRequest, plugins: Registry, tmp_path: Path) -> None:
    path = written(plugins, request_, "stacked adapter (GGUF)", tmp_path / "out.gguf")
    stack = LoraStack()
    (adapter,) = request_.adapters.values()
    stack.push(adapter, -0.5)  # type: ignore[arg-type]
    other = ExportRequest(request_.base, stack.by_key, stack.blend)
    agreement: Agreement = finish(verify(other, path, TEXTS, plugins, make_engine))
    assert not agreement.passed
    assert agreement.top1 < 1
    assert agreement.max_kl >= agreement.mean_kl > 0
    assert agreement.lost > 1.1
    assert (
        agreement.verdict
        == "The file is another model: it is farther from the live blend than the bare base is."
    )


def merge(request: ExportRequest, path: Path, share: float, **options: Any) -> Path:
    """Write the base with a share of the blend in it."""
    (adapter,) = request.adapters.values()
    tensors = {name: request.base.dense(name) for name in request.base.tensors}
    for module, pair in adapter.factors.items():  # type: ignore[attr-defined]
        tensors[module] += share * 0.5 * pair.scaling * (pair.b @ pair.a)
    write_gguf(path, dict(request.base.metadata), tensors, **options)
    return path


def test_a_merged_model_runs_by_itself(request_: ExportRequest, plugins: Registry, tmp_path: Path) -> None:
    path = merge(request_, tmp_path / "merged.gguf", 1.0)
    agreement: Agreement = finish(verify(request_, path, TEXTS, plugins, make_engine))
    assert (agreement.kind, agreement.type_name, agreement.passed) == ("model", "F32", True)
    (adapter,) = request_.adapters.values()
    assert {one.module for one in agreement.modules} == set(adapter.modules)
    assert all(one.kept == pytest.approx(1, abs=1e-3) for one in agreement.modules)


def test_a_merged_model_without_the_adapter_is_found_out(
    request_: ExportRequest, plugins: Registry, tmp_path: Path
) -> None:
    path = merge(request_, tmp_path / "merged.gguf", 0.0, tensor_type="Q8_0")
    agreement: Agreement = finish(verify(request_, path, TEXTS, plugins, make_engine))
    assert not agreement.passed
    assert agreement.lost == pytest.approx(1, abs=0.1)
    assert agreement.verdict.startswith("The adapter is gone")
    assert all(abs(one.kept) < 0.5 for one in agreement.modules)


def test_the_measures_are_those_of_the_logits(
    request_: ExportRequest, plugins: Registry, tmp_path: Path
) -> None:
    path = merge(request_, tmp_path / "merged.gguf", 0.5)
    agreement: Agreement = finish(verify(request_, path, TEXTS, plugins, make_engine))
    engine = make_engine()
    live: list[Any] = []
    found: list[Any] = []
    merged = GgufFile.open(path)
    for opened, state, to in ((request_.base, request_.state, live), (merged, BASE_ALONE, found)):
        engine.open(opened)
        engine.attach(request_.adapters)
        to += [engine.evaluate(text, state, positions="all").logits.astype(np.float64) for text in TEXTS]
    engine.close()
    merged.close()
    one, other = np.concatenate(live), np.concatenate(found)
    log_p, log_q = (x - np.log(np.exp(x).sum(-1, keepdims=True)) for x in (one, other))
    divergences = (np.exp(log_p) * (log_p - log_q)).sum(-1)
    assert agreement.mean_kl == pytest.approx(divergences.mean(), rel=1e-3)
    assert agreement.max_kl == pytest.approx(divergences.max(), rel=1e-3)
    assert agreement.max_error == pytest.approx(np.abs(one - other).max(), rel=1e-3)
    assert agreement.relative_error == pytest.approx(
        np.linalg.norm(one - other) / np.linalg.norm(one), rel=1e-3
    )
    assert agreement.top1 == (one.argmax(-1) == other.argmax(-1)).mean()


@pytest.fixture(scope="module")
def two(base: GgufFile, data_dir: Path, request_: ExportRequest) -> LoraStack:
    """The fixture's adapter at 0.5, and its negative on half of the modules."""
    (adapter,) = request_.adapters.values()
    assert isinstance(adapter, Adapter)
    half = dict(list(adapter.factors.items())[::2])
    stack = LoraStack()
    stack.push(adapter, 0.5)
    stack.push(adapter.with_factors(half), -0.3)
    return stack


@pytest.mark.parametrize("method", ["ties", "dare_linear", "task_arithmetic"])
def test_what_a_method_merges_is_held_against_what_it_makes(
    base: GgufFile, plugins: Registry, two: LoraStack, tmp_path: Path, method: str
) -> None:
    found = next(one for one in plugins.combine_methods if one.name == method)
    options = found.Options(lambda_=0.4) if method == "task_arithmetic" else found.Options()
    request = ExportRequest(base, two.by_key, two.blend, Combination(found, options))
    path = written(plugins, request, "merged base (GGUF)", tmp_path / "merged.gguf", type="F32")
    agreement: Agreement = finish(verify(request, path, TEXTS, plugins, make_engine))
    assert (agreement.passed, agreement.method) == (True, method)
    assert agreement.moved > 100 * agreement.mean_kl  # it is another blend than the one on the desk
    assert agreement.verdict == "The file answers as the combined blend does."
    assert all(one.kept == pytest.approx(1, abs=1e-3) for one in agreement.modules)
    live = ExportRequest(base, two.by_key, two.blend)
    as_heard: Agreement = finish(verify(live, path, TEXTS, plugins, make_engine))
    assert not as_heard.passed and as_heard.moved == 0


def test_a_cut_adapter_is_held_against_the_cut_blend(
    base: GgufFile, plugins: Registry, two: LoraStack, tmp_path: Path
) -> None:
    request = ExportRequest(base, two.by_key, two.blend, limited(None, RankLimit(1)))
    path = written(plugins, request, "stacked adapter (GGUF)", tmp_path / "out.gguf")
    agreement: Agreement = finish(verify(request, path, TEXTS, plugins, make_engine))
    assert (agreement.passed, agreement.method, agreement.type_name) == (True, "sum, cut", "F32")
    assert agreement.moved > 100 * agreement.mean_kl


def test_an_adapter_may_lie_in_a_folder_or_an_archive(
    request_: ExportRequest, plugins: Registry, tmp_path: Path
) -> None:
    folder, archive = tmp_path / "within", tmp_path / "out.zip"
    folder.mkdir()
    directory = written(plugins, request_, "PEFT directory", folder / "out", type="F16")
    with zipfile.ZipFile(archive, "w") as packed:
        for file in directory.iterdir():
            packed.write(file, f"inside/{file.name}")
    for path in (folder, archive, directory / "adapter_config.json"):
        agreement: Agreement = finish(verify(request_, path, TEXTS, plugins, make_engine))
        assert (agreement.kind, agreement.type_name, agreement.passed) == ("adapter", "F16", True), path


def test_long_texts_are_cut(request_: ExportRequest, plugins: Registry, tmp_path: Path) -> None:
    path = written(plugins, request_, "stacked adapter (GGUF)", tmp_path / "out.gguf")
    agreement: Agreement = finish(verify(request_, path, [list(range(5, 205))], plugins, make_engine))
    assert agreement.positions == 200


def test_cancelling_closes_the_engine(request_: ExportRequest, plugins: Registry, tmp_path: Path) -> None:
    path = merge(request_, tmp_path / "merged.gguf", 1.0)
    engines: list[Engine] = []

    def make() -> Engine:
        engines.append(make_engine())
        return engines[-1]

    for steps in (1, 3, 5, 8):
        work = verify(request_, path, TEXTS, plugins, make)
        for _ in range(steps):
            next(work)
        work.close()
    for engine in engines:
        with pytest.raises(EngineError):
            engine.evaluate([1], BASE_ALONE)


def test_what_cannot_be_compared_is_refused(
    request_: ExportRequest, plugins: Registry, tmp_path: Path, data_dir: Path, smollm2_path: Path
) -> None:
    with pytest.raises(EngineError, match="no text"):
        finish(verify(request_, tmp_path, [[]], plugins, make_engine))
    with pytest.raises(UnsupportedError, match="does not read this folder back"):
        finish(verify(request_, tmp_path, TEXTS, plugins, make_engine))
    with pytest.raises(FormatError, match="no such file"):
        finish(verify(request_, tmp_path / "missing", TEXTS, plugins, make_engine))
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(FormatError, match="neither a base nor an adapter"):
        finish(verify(request_, tmp_path / "text.gguf", TEXTS, plugins, make_engine))
    with pytest.raises(MismatchError, match="another vocabulary"):
        finish(verify(request_, smollm2_path, TEXTS, plugins, make_engine))


def test_an_adapter_is_judged_by_its_coarsest_type_where_that_is_known(
    request_: ExportRequest, plugins: Registry, tmp_path: Path
) -> None:
    path = written(plugins, request_, "stacked adapter (GGUF)", tmp_path / "out.gguf", type="Q8_0")
    assert stored_type(path, "adapter") == "Q8_0"
    assert stored_type(path, "model") in ("F16", "Q8_0")
    (tmp_path / "old.bin").write_bytes(b"ggla is no format whose header is read here")
    assert stored_type(tmp_path / "old.bin", "adapter") == ""
