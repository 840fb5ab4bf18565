"""Collections that leave old objects alone."""

from __future__ import annotations

import gc

from studio.jobs.short_collections import short_collections


def test_old_objects_are_left_out_until_the_last_work_ends() -> None:
    assert gc.get_freeze_count() == 0
    with short_collections():
        with short_collections():
            assert gc.get_freeze_count() > 1000
        assert gc.get_freeze_count() > 1000
    assert gc.get_freeze_count() == 0
