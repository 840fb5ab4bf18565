"""The cache of adapters: which one makes room, and what happens when many ask at once."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from studio.errors import FormatError, StudioError
from studio.lora.cache import AdapterCache


def cache_of(size: int) -> AdapterCache[str]:
    return AdapterCache(size, lambda path: f"read {path}")


def test_the_least_recently_used_makes_room() -> None:
    cache = cache_of(2)
    cache.put("a", "A")
    cache.put("b", "B")
    assert cache.names == ("a", "b")
    assert cache.get("a") == "A"  # now b is the oldest
    cache.put("c", "C")
    assert (cache.names, cache.size) == (("a", "c"), 2)
    assert cache.get("b") is None


def test_putting_again_replaces_and_refreshes() -> None:
    cache = cache_of(2)
    for name, adapter in (("a", "A"), ("b", "B"), ("a", "A2")):
        cache.put(name, adapter)
    assert (cache.names, cache.get("a")) == (("b", "a"), "A2")


def test_what_is_held_is_not_loaded_again() -> None:
    loaded: list[Path] = []

    def load(path: Path) -> str:
        loaded.append(path)
        return path.name

    cache = AdapterCache(1, load)
    assert cache.get_or_load("a", Path("x")) == cache.get_or_load("a", Path("y")) == "x"
    assert cache.get_or_load("b", Path("y")) == "y"
    assert (loaded, cache.names) == ([Path("x"), Path("y")], ("b",))


def test_evicting() -> None:
    cache = cache_of(2)
    cache.put("a", "A")
    cache.evict("a")
    cache.evict("never there")
    assert cache.size == 0


def test_an_error_is_raised_to_the_caller_and_not_kept() -> None:
    outcomes = iter([FormatError("cut"), None])

    def load(path: Path) -> str:
        if error := next(outcomes):
            raise error
        return "good"

    cache = AdapterCache(1, load)
    with pytest.raises(FormatError, match="cut"):
        cache.get_or_load("a", Path("x"))
    assert cache.size == 0
    assert cache.get_or_load("a", Path("x")) == "good"


def test_callers_at_the_same_time_share_one_load() -> None:
    started, go = threading.Event(), threading.Event()
    loads: list[Path] = []

    def load(path: Path) -> str:
        loads.append(path)
        started.set()
        assert go.wait(10)
        return path.name

    cache = AdapterCache(2, load)
    with ThreadPoolExecutor(9) as pool:
        first = pool.submit(cache.get_or_load, "a", Path("x"))
        assert started.wait(10)
        rest = [pool.submit(cache.get_or_load, "a", Path("x")) for _ in range(8)]
        cache.put("b", "B")  # other names are served meanwhile
        assert cache.get("b") == "B"
        go.set()
        assert {one.result(10) for one in (first, *rest)} == {"x"}
    assert loads == [Path("x")]
    assert cache.names == ("b", "a")


def test_a_load_that_is_overtaken_is_not_kept() -> None:
    started, go = threading.Event(), threading.Event()

    def load(path: Path) -> str:
        started.set()
        assert go.wait(10)
        return "old"

    cache = AdapterCache(2, load)
    with ThreadPoolExecutor(1) as pool:
        loading = pool.submit(cache.get_or_load, "a", Path("x"))
        assert started.wait(10)
        cache.put("a", "new")
        go.set()
        assert loading.result(10) == "old"  # what its own caller asked for
    assert cache.get("a") == "new"


def test_many_threads_leave_it_whole() -> None:
    cache = cache_of(3)

    def work(seed: int) -> None:
        for step in range(200):
            name = str((seed * 7 + step) % 6)
            assert cache.get_or_load(name, Path(name)) == f"read {name}"
            if step % 11 == 0:
                cache.evict(name)
            assert cache.size <= 3

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(work, range(6)))
    assert len(set(cache.names)) == cache.size <= 3


def test_a_cache_of_nothing_is_refused() -> None:
    with pytest.raises(StudioError, match="holds none"):
        cache_of(0)
