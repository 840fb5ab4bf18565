from __future__ import annotations

import studio.api


def test_all_is_sorted_and_says_exactly_what_there_is() -> None:
    public = {name for name in vars(studio.api) if not name.startswith("_") and name != "annotations"}
    assert list(studio.api.__all__) == sorted(public, key=str)
