"""The demo on the real model: the whole way, as a picture."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PySide6.QtGui import QImage

from studio.gui.screenshot import SIZE, Show
from studio.resources import demo_session

if TYPE_CHECKING:
    from pathlib import Path

    from studio.registry import Registry


def test_the_demo_shows_real_adapters_at_work(plugins: Registry, tmp_path: Path) -> None:
    show = Show(demo_session(), plugins)
    try:
        stack = show.desk.session.stack
        assert len(stack) >= 2
        key = stack.state.channels[0].key
        quiet = show.move(key, 0.0).next_token
        loud = show.move(key, 1.0).next_token
        assert loud.kl > quiet.kl
        assert show.desk.window.heatmap.range[1] > 0
        show.save(tmp_path / "desk.png")
    finally:
        show.close()
    image = QImage(str(tmp_path / "desk.png"))
    assert (image.width(), image.height()) == SIZE
