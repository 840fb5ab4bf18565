from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import pytest

from studio.contracts import ChannelState, Gains, Sampling
from studio.errors import StudioError
from studio.formats.gguf_file import GgufFile
from studio.session.document import SessionDocument
from studio.session.opened import LoadedAdapter, OpenedBase, OpenedDocument
from studio.session.prompt import Prompt
from studio.session.session import Session

MakeAdapter = Callable[..., LoadedAdapter]


def opened(path: Path, *adapters: LoadedAdapter) -> OpenedBase:
    base = GgufFile.open(path)
    base.close()  # its metadata stays, and these tests read no tensor
    return OpenedBase(base, str(path), "sha256-head:0", tokenizer=None, adapters=adapters)


def test_a_new_session_is_empty_and_not_modified(session: Session) -> None:
    assert session.base is None and session.tokenizer is None and session.stack.is_empty
    assert session.document() == SessionDocument()
    assert not session.modified


def test_signals_carry_the_new_value_once(session: Session) -> None:
    prompt_changed, sampling_changed = Mock(), Mock()
    session.prompt_changed.connect(prompt_changed)
    session.sampling_changed.connect(sampling_changed)
    session.prompt = session.prompt = Prompt("Ahoy", chat=True)
    session.sampling = session.sampling = Sampling(temperature=0.7)
    prompt_changed.assert_called_once_with(Prompt("Ahoy", chat=True))
    sampling_changed.assert_called_once_with(Sampling(temperature=0.7))


def test_any_change_marks_the_session_as_modified_until_it_is_saved(
    session: Session, loaded: MakeAdapter
) -> None:
    seen: list[bool] = []
    session.modified_changed.connect(seen.append)
    key = session.add_adapter(loaded("pirate"))
    session.stack.set_scale(key, 0.3)
    session.mark_saved(Path("session.json"))
    session.prompt = Prompt("Ahoy")
    assert seen == [True, False, True]
    assert session.path == Path("session.json")


def test_adding_an_adapter_is_one_step_with_its_controls(session: Session, loaded: MakeAdapter) -> None:
    key = session.add_adapter(loaded("pirate"), -0.5, muted=True, soloed=True)
    assert session.stack.channel(key) == ChannelState(key, -0.5, muted=True, soloed=True)
    session.history.undo()
    assert session.stack.is_empty


def test_the_document_tells_everything(session: Session, loaded: MakeAdapter, smollm2_path: Path) -> None:
    session.set_base(opened(smollm2_path))
    session.add_adapter(loaded("pirate"), 0.8, muted=True)
    session.add_adapter(loaded("legal"), 0.2, soloed=True, gains=Gains.of({"blk.0.attn_q.weight": 0.5}))
    session.stack.set_master(1.5)
    session.prompt = Prompt("Ahoy")
    document = session.document()
    assert document.base is not None and document.base.location == str(smollm2_path)
    assert [
        (Path(entry.location).name, entry.scale, entry.muted, entry.soloed) for entry in document.adapters
    ] == [
        ("pirate", 0.8, True, False),
        ("legal", 0.2, False, True),
    ]
    assert [entry.gains for entry in document.adapters] == [{}, {"attn_q": {"0": 0.5}}]
    assert (document.master, document.prompt) == (1.5, Prompt("Ahoy"))


def test_another_base_keeps_the_controls_of_the_adapters_that_fit_it(
    session: Session, loaded: MakeAdapter, smollm2_path: Path
) -> None:
    session.add_adapter(loaded("pirate"), 0.8)
    gains = Gains.of({"blk.0.attn_q.weight": 0.5})
    session.add_adapter(loaded("legal"), 0.2, muted=True, gains=gains)
    session.stack.set_master(1.5)
    session.set_base(opened(smollm2_path, loaded("legal"), loaded("fresh")))
    legal, fresh = session.stack.state.channels
    assert legal == ChannelState("legal", 0.2, muted=True, gains=gains)
    assert (fresh.key, fresh.scale, fresh.muted) == ("fresh", 1.0, False)
    assert session.stack.state.master == 1.5
    assert not session.history.can_undo


def test_no_listener_sees_the_new_base_with_the_old_stack(
    session: Session, loaded: MakeAdapter, smollm2_path: Path
) -> None:
    session.add_adapter(loaded("pirate"))
    seen = []
    session.stack.changed.connect(lambda: seen.append((session.base is None, list(session.reports))))
    session.base_changed.connect(lambda: seen.append((session.base is None, list(session.reports))))
    session.set_base(opened(smollm2_path, loaded("legal")))
    assert seen == [(False, ["legal"]), (False, ["legal"])]


def test_restoring_a_document_replaces_everything(
    session: Session, loaded: MakeAdapter, smollm2_path: Path, tmp_path: Path
) -> None:
    session.add_adapter(loaded("old"))
    document = SessionDocument(master=0.5, prompt=Prompt("Ahoy"), sampling=Sampling(seed=7))
    session.restore(
        OpenedDocument(
            tmp_path / "session.json",
            document,
            opened(smollm2_path, loaded("pirate")),
            channels=(ChannelState("", 0.8, soloed=True),),
        )
    )
    assert session.stack.state.channels == (ChannelState("pirate", 0.8, soloed=True),)
    assert (session.stack.state.master, session.prompt.text, session.sampling.seed) == (0.5, "Ahoy", 7)
    assert session.path == tmp_path / "session.json"
    assert not session.modified and not session.history.can_undo


def test_what_was_left_out_cannot_be_lost_by_saving(
    session: Session, loaded: MakeAdapter, smollm2_path: Path, tmp_path: Path
) -> None:
    session.mark_saved(tmp_path / "before.json")
    session.restore(
        OpenedDocument(
            tmp_path / "session.json",
            SessionDocument(),
            opened(smollm2_path, loaded("pirate")),
            channels=(ChannelState(""),),
            left_out=("legal",),
        )
    )
    assert session.modified and session.path is None


def test_a_sampling_out_of_bounds_changes_nothing(
    session: Session, loaded: MakeAdapter, tmp_path: Path
) -> None:
    session.add_adapter(loaded("pirate"))
    before, signals = session.document(), Mock()
    session.stack.changed.connect(signals)
    far = SessionDocument(master=0.5, prompt=Prompt("Ahoy"), sampling=Sampling(max_tokens=10**12))
    with pytest.raises(StudioError, match="max_tokens"):
        session.restore(OpenedDocument(tmp_path / "session.json", far, base=None))
    with pytest.raises(StudioError, match="max_tokens"):
        session.sampling = far.sampling
    assert session.document() == before
    signals.assert_not_called()


@pytest.mark.parametrize("object_is_known", [True, False])
def test_an_adapter_of_a_stranger_is_heard_but_not_stored(
    session: Session, loaded: MakeAdapter, object_is_known: bool
) -> None:
    if object_is_known:
        session.add_adapter(loaded("pirate"))
    else:
        session.stack.push_adapter(loaded("pirate").adapter)
    assert len(session.stack.blend.channels) == 1
    assert len(session.document().adapters) == int(object_is_known)
