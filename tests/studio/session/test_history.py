from __future__ import annotations

from collections.abc import Callable

import pytest

from studio.session.history import LONGEST
from studio.session.opened import LoadedAdapter
from studio.session.session import Session

MakeAdapter = Callable[..., LoadedAdapter]


@pytest.fixture
def key(session: Session, loaded: MakeAdapter) -> str:
    key = session.add_adapter(loaded("pirate"), 0.5)
    session.history.clear()
    return key


def scale(session: Session, key: str) -> float:
    return session.stack.channel(key).scale


def test_a_change_is_a_step_to_undo_and_to_redo(session: Session, key: str) -> None:
    session.stack.set_scale(key, 0.8)
    session.stack.set_master(2.0)
    session.history.undo()
    assert (session.stack.state.master, scale(session, key)) == (1.0, 0.8)
    session.history.undo()
    assert scale(session, key) == 0.5
    session.history.redo()
    session.history.redo()
    assert (session.stack.state.master, scale(session, key)) == (2.0, 0.8)
    assert not session.history.can_redo


def test_a_drag_is_one_step(session: Session, key: str) -> None:
    session.history.begin()
    for position in range(100):
        session.stack.set_scale(key, position / 100)
    session.history.end()
    session.history.undo()
    assert scale(session, key) == 0.5
    assert not session.history.can_undo


def test_a_drag_that_comes_back_leaves_no_step(session: Session, key: str) -> None:
    with session.history.step():
        session.stack.set_scale(key, 0.9)
        session.stack.set_scale(key, 0.5)
    assert not session.history.can_undo


def test_undo_in_the_middle_of_a_drag_ends_it_first(session: Session, key: str) -> None:
    session.history.begin()
    session.stack.set_scale(key, 0.9)
    session.history.undo()
    assert scale(session, key) == 0.5
    session.history.end()  # the mouse is let go afterwards
    assert not session.history.can_undo
    assert session.history.can_redo


def test_a_new_change_forgets_what_was_undone(session: Session, key: str) -> None:
    session.stack.set_scale(key, 0.8)
    session.history.undo()
    session.stack.set_scale(key, 0.1)
    assert not session.history.can_redo
    session.history.redo()
    assert scale(session, key) == 0.1


def test_undo_without_a_step_does_nothing(session: Session, key: str) -> None:
    session.history.undo()
    assert scale(session, key) == 0.5


def test_undo_brings_a_removed_adapter_back_with_its_controls(session: Session, key: str) -> None:
    session.stack.set_muted(key, True)
    session.remove_adapter(key)
    assert session.stack.is_empty
    session.history.undo()
    assert session.stack.channel(key).muted
    assert session.reports[key].name == "pirate"


def test_an_adapter_that_was_loaded_again_is_told_from_its_older_self(
    session: Session, key: str, loaded: MakeAdapter
) -> None:
    def fingerprint() -> str:
        return session.document().adapters[0].fingerprint

    session.remove_adapter(key)
    assert session.add_adapter(loaded("pirate", fingerprint="sha256:changed")) == key
    assert fingerprint() == "sha256:changed"
    session.history.undo()
    session.history.undo()
    assert fingerprint() == ""
    session.history.redo()
    session.history.redo()
    assert fingerprint() == "sha256:changed"


def test_listeners_learn_when_undo_becomes_possible(session: Session, key: str) -> None:
    seen: list[tuple[bool, bool]] = []
    session.history.changed.connect(lambda: seen.append((session.history.can_undo, session.history.can_redo)))
    session.stack.set_scale(key, 0.8)
    session.history.undo()
    assert seen == [(True, False), (False, True)]


def test_the_oldest_steps_are_forgotten(session: Session, key: str) -> None:
    for step in range(LONGEST + 10):
        session.stack.set_scale(key, 1.0 + step)
    for _ in range(LONGEST + 10):
        session.history.undo()
    assert scale(session, key) == 10.0


def test_an_adapter_that_learns_leaves_no_step_and_is_never_undone(
    session: Session, key: str, loaded: MakeAdapter
) -> None:
    learnt = loaded("pirate, a step later").adapter
    told: list[bool] = []
    session.stack.set_scale(key, 0.8)
    session.stack.changed.connect(lambda: told.append(True))
    session.history.exchange(key, learnt)
    assert told and session.stack.by_key[key] is learnt
    session.history.undo()
    assert scale(session, key) == 0.5 and session.stack.by_key[key] is learnt
    assert not session.history.can_undo
    session.history.redo()
    assert scale(session, key) == 0.8 and session.stack.by_key[key] is learnt


def test_an_adapter_that_was_taken_off_learns_on_for_undo(
    session: Session, key: str, loaded: MakeAdapter
) -> None:
    learnt = loaded("pirate, a step later").adapter
    session.remove_adapter(key)
    session.history.exchange(key, learnt)
    assert session.stack.is_empty
    session.history.undo()
    assert session.stack.by_key[key] is learnt
