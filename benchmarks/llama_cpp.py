"""llama.cpp as the other side: a process in the peers' environment that answers line by line."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peer_process import PeerError, PeerProcess

if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Self

SERVER = Path(__file__).parent / "peers" / "llama_server.py"


@dataclass(frozen=True)
class Settings:
    """What makes llama.cpp faster or slower.

    Attributes
    ----------
    repack
        Whether it repacks the weights for the processor: faster, but on some processors it crashes.
    flash_attention
        Whether it uses flash attention.
    """

    repack: bool = True
    flash_attention: bool = True

    def as_fields(self) -> dict[str, bool]:
        """Return them by name."""
        return asdict(self)


class LlamaCpp:
    """A base and adapters open in llama.cpp, on two threads.

    Parameters
    ----------
    python
        The Python of the peers' environment.
    base
        The base's GGUF file.
    adapters
        llama.cpp's adapters; a prompt with n scales hears the first n.
    settings
        `fastest` finds the best.
    context
        How many tokens there is room for.

    Raises
    ------
    PeerError
        If its process ends, here or in any method.
    """

    def __init__(
        self,
        python: str,
        base: Path,
        adapters: Sequence[Path],
        settings: Settings,
        context: int = 512,
    ) -> None:
        self.settings = settings
        self._process = PeerProcess("llama.cpp", python, SERVER)
        paths = [str(path) for path in adapters]
        self._process.ask("open", base=str(base), adapters=paths, context=context, **settings.as_fields())

    @classmethod
    def fastest(
        cls, python: str, base: Path, adapters: Sequence[Path], tokens: Sequence[int], context: int = 512
    ) -> Self:
        """Open it with the settings that answer a prompt like `tokens` the soonest."""
        for repack in (True, False):
            try:
                opened = cls(python, base, adapters, Settings(repack), context)
                opened._choose(tokens, [0.5] * len(adapters))
                return opened
            except PeerError as error:
                failure = error
        raise failure

    def tokens(self, text: str) -> list[int]:
        """Turn text into tokens."""
        return [int(token) for token in self._process.ask("tokens", text=text)["tokens"]]

    def prompt(self, tokens: Sequence[int], scales: Sequence[float]) -> float:
        """Set the scales and evaluate a prompt anew: milliseconds until its last token's logits."""
        return float(self._process.ask("prompt", tokens=tokens, scales=scales)["milliseconds"])

    def decode(self, tokens: Sequence[int], count: int, scales: Sequence[float]) -> float:
        """Decode greedily after a prompt: tokens a second."""
        self.prompt(tokens, scales)
        return 1e3 * count / float(sum(self._process.ask("generate", count=count)["milliseconds"]))

    @property
    def process_id(self) -> int:
        """The number of its process."""
        return self._process.pid

    def close(self) -> None:
        """End the process."""
        self._process.close()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(self, *raised: object) -> None:
        """End the process."""
        self.close()

    def _choose(self, tokens: Sequence[int], scales: Sequence[float]) -> None:
        chosen = self._process.ask("choose", tokens=tokens, scales=scales)
        self.settings = replace(self.settings, flash_attention=chosen["flash_attention"])
