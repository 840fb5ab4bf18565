"""A process in the peers' environment that answers requests, a line of JSON each."""

from __future__ import annotations

import json
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO


class PeerError(RuntimeError):
    """The peer's process ended."""


class PeerProcess:
    """A script that reads requests ``{"do": ..., ...}`` and prints an answer for each.

    Parameters
    ----------
    name
        Who it is, for messages.
    python
        The Python of the peers' environment.
    script
        What it runs.
    """

    def __init__(self, name: str, python: str, script: Path) -> None:
        self._name = name
        self._errors: IO[str] = tempfile.TemporaryFile("w+")
        self._process = subprocess.Popen(
            [python, str(script)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._process.pid

    def ask(self, do: str, **fields: Any) -> dict[str, Any]:
        """Send a request and wait for its answer. Raises `PeerError` if the process ends."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            print(json.dumps({"do": do, **fields}), file=self._process.stdin, flush=True)
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            self._errors.seek(0)
            said = self._errors.read()[-1000:]
            self.close()
            raise PeerError(f"{self._name} ended with {code}. {said}".rstrip())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()
