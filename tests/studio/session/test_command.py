"""The command of a session: quoted, without what is silent, and refused where there are no words for it."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from studio.contracts import Combination, Gains
from studio.errors import StudioError
from studio.lora.algebra import RankLimit
from studio.lora.limiting import limited
from studio.session.command import ExportSettings, blend_command, export_command
from studio.session.opened import LoadedAdapter, OpenedBase

if TYPE_CHECKING:
    from collections.abc import Callable

    from studio.session.session import Session


@dataclass(frozen=True)
class Options:
    type: str = "F32"
    modelfile: bool = False


EXPORTER: Any = SimpleNamespace(name="a format", suffix=".gguf", Options=Options)
SETTINGS = ExportSettings(EXPORTER, Options(), Path("my blend.gguf"))


@pytest.fixture
def opened(session: Session) -> Session:
    """A session with a base that is known by its location."""
    base: Any = SimpleNamespace(tensors={}, name="base", architecture="llama")
    session.set_base(OpenedBase(base, "/models/the base.gguf", "", tokenizer=None))
    return session


def test_scales_options_and_texts_are_words(
    opened: Session, loaded: Callable[..., LoadedAdapter], tmp_path: Path
) -> None:
    opened.add_adapter(replace(loaded("one"), options={"alpha": 8.0}), 0.3)
    opened.stack.set_master(3.0)
    settings = replace(SETTINGS, options=Options("F16", modelfile=True), texts=("it's",))
    words = shlex.split(export_command(opened, settings))
    assert words == [
        *("lora-studio", "export", "/models/the base.gguf"),
        *("--adapter", f"{tmp_path / 'one'}:0.9", "--loader-option", "alpha=8.0"),
        *("-o", "my blend.gguf", "--to", "a format"),
        *("--option", "type=F16", "--option", "modelfile=true"),
        *("--verify", "--prompt", "it's"),
    ]


def test_gains_are_said_in_the_shorter_way(opened: Session, loaded: Callable[..., LoadedAdapter]) -> None:
    """A curve where all modules of a layer have one gain, else JSON by target."""
    opened.add_adapter(loaded("one"))
    module = next(iter(opened.stack.by_key["one"].modules))
    opened.stack.set_gains("one", Gains.of({module: 0.5}))
    words = shlex.split(blend_command(opened, "stack", "-o", "blend.gguf"))
    assert words[:2] == ["lora-studio", "stack"]
    assert words[-4:] == ["--gains", "1=0:0.5", "-o", "blend.gguf"]


def test_a_combination_is_a_method_a_rank_and_an_energy(
    opened: Session, loaded: Callable[..., LoadedAdapter]
) -> None:
    opened.add_adapter(loaded("one"))
    ties: Any = SimpleNamespace(name="ties", Options=Options)
    method = "--method ties"
    for combination, words in (
        (
            limited(Combination(ties, Options("x")), RankLimit(8)),
            "--rank 8 --method ties --method-option type=x",
        ),
        (limited(None, RankLimit(energy=0.5)), "--energy 0.5"),
        (Combination(ties, Options()), method),
    ):
        line = export_command(opened, replace(SETTINGS, combination=combination))
        assert line.endswith(f"--to 'a format' {words}")


def test_what_a_line_cannot_say_is_refused(opened: Session, loaded: Callable[..., LoadedAdapter]) -> None:
    with pytest.raises(StudioError, match="silent"):
        export_command(opened, SETTINGS)
    opened.add_adapter(replace(loaded("one"), options={"alpha": 8.0}))
    opened.add_adapter(loaded("two"))  # of the same format, for which --loader-option alpha=8 would hold too
    with pytest.raises(StudioError, match="two was read with other options"):
        export_command(opened, SETTINGS)
    opened.remove_adapter("two")
    opened.stack.push(loaded("made").adapter)
    with pytest.raises(StudioError, match="made was made here"):
        export_command(opened, SETTINGS)
