"""What the benchmarks work on: the demo's base, three adapters of PEFT's over and over, and a text."""

from __future__ import annotations

import itertools
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from studio.cli.output import finish
from studio.contracts import BlendChannel, BlendState, ExportRequest
from studio.jobs.documents import open_document
from studio.lora.adapter import Adapter
from studio.session.session import Session

if TYPE_CHECKING:
    from collections.abc import Iterator

    from studio.contracts import BaseModel, Plugins
    from studio.engine.tokenizer import Tokenizer

SESSION = Path(__file__).parent / "three_adapters.lorastudio.json"
"""The demo's base, with adapters of the ranks 8, 4 to 16, and 16."""

PROMPT_LENGTH = 64

TEXT = (
    "Early one morning, before the sun had risen over the quiet harbour, the old fisherman untied his boat, "
    "looked back at the town where he had lived for seventy years, and said to nobody in particular that he "
    "would be home before dark. The gulls followed him past the lighthouse and out to where the water turns "
    "from green to black, and there he let down his nets and waited, as he had always done, for the sea to "
    "make up its mind."
)


def open_session(plugins: Plugins) -> Session:
    """Open the session with every channel heard at its own scale."""
    session = Session()
    session.restore(finish(open_document(SESSION, plugins)))
    for channel in session.stack.state.channels:
        session.stack.set_muted(channel.key, False)
    return session


def prompt_text(tokenizer: Tokenizer) -> str:
    """Return a text of exactly 64 tokens."""
    text = tokenizer.decode(tokenizer.encode(TEXT)[:PROMPT_LENGTH])
    assert len(tokenizer.encode(text)) == PROMPT_LENGTH
    return text


@dataclass(frozen=True)
class Demo:
    """A base with its tokenizer and adapters.

    Attributes
    ----------
    base, tokenizer
        SmolLM2's.
    three
        The adapters.
    plugins
        What opened them.
    """

    base: BaseModel
    tokenizer: Tokenizer
    three: tuple[Adapter, ...]
    plugins: Plugins

    def adapters(self, count: int) -> list[Adapter]:
        """Return so many adapters: the three, over and over."""
        return list(itertools.islice(itertools.cycle(self.three), count))

    def tokens(self, count: int = PROMPT_LENGTH) -> tuple[int, ...]:
        """Return the first tokens of the text, which begins again where it ends."""
        text = " ".join([TEXT] * (1 + count // PROMPT_LENGTH))
        return tuple(self.tokenizer.encode(text)[:count])

    def adapter_files(self, count: int, folder: Path) -> list[Path]:
        """Write the three adapters as llama.cpp's, each by itself at scale 1, and return so many paths."""
        exporter = next(one for one in self.plugins.exporters if one.name == "stacked adapter (GGUF)")
        paths = []
        for number, adapter in enumerate(self.three):
            path = folder / f"{number}.gguf"
            alone = BlendState((BlendChannel("one", adapter.version, 1.0),))
            request = ExportRequest(self.base, {"one": adapter}, alone)
            finish(exporter.export(request, path, exporter.Options()))
            paths.append(path)
        return list(itertools.islice(itertools.cycle(paths), count))


@contextmanager
def demo(plugins: Plugins) -> Iterator[Demo]:
    """Open the demo for a while."""
    session = open_session(plugins)
    assert session.base is not None
    assert session.tokenizer is not None
    three = tuple(one for one in session.stack.by_key.values() if isinstance(one, Adapter))
    try:
        yield Demo(session.base, session.tokenizer, three, plugins)
    finally:
        session.base.close()
