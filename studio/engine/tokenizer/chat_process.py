"""Keeps the process that runs chat templates: starts it when first asked, and kills it when it runs too long.

A template is a program by a stranger. Inside the studio's process no limit on it would hold: one operation
may take forever or fill the memory, and Python cannot stop it. Another process can be killed, so time and
memory are truly bounded.
"""

from __future__ import annotations

import json
import subprocess
import sys
import weakref
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Timer
from typing import Any

from studio.errors import EngineError

WORKER = Path(__file__).with_name("chat_worker.py")
START_LIMIT_S = 30.0
ANSWER_LIMIT_S = 3.0
ANSWER_LIMIT_BYTES = 64 * 2**20


class ChatProcess:
    """One process that answers one request at a time. Threads may share it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def ask(self, request: dict[str, Any]) -> dict[str, Any] | None:
        """Send a request and return its answer; None: it ran past its limits, and the process was killed."""
        with self._lock:
            if self._process is None:
                self._process = self._start()
            line = _exchange(self._process, json.dumps(request).encode() + b"\n", ANSWER_LIMIT_S)
            if line is None:
                self._stop()
                self._process = None
                return None
            answer: dict[str, Any] = json.loads(line)
            return answer

    def _start(self) -> subprocess.Popen[bytes]:
        try:
            process = subprocess.Popen(
                [sys.executable, "-I", str(WORKER)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
            )
        except OSError as error:
            raise EngineError(f"the process for chat templates does not start: {error}") from error
        self._stop = weakref.finalize(self, _stop, process)
        if _exchange(process, b"", START_LIMIT_S) is None:
            self._stop()
            raise EngineError("the process for chat templates does not start")
        return process


def _exchange(process: subprocess.Popen[bytes], data: bytes, limit_s: float) -> bytes | None:
    """Write to the process and read one line; None where it took too long, wrote too much or died."""
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    expired = Event()

    def expire() -> None:
        expired.set()
        process.kill()

    watchdog = Timer(limit_s, expire)
    watchdog.daemon = True
    watchdog.start()
    line = b""
    try:
        with suppress(BrokenPipeError):  # the process died: the line below stays empty
            process.stdin.write(data)
            process.stdin.flush()
        line = process.stdout.readline(ANSWER_LIMIT_BYTES)
    finally:
        watchdog.cancel()
        watchdog.join()
    return line if line.endswith(b"\n") and not expired.is_set() else None


def _stop(process: subprocess.Popen[bytes]) -> None:
    assert process.stdin is not None and process.stdout is not None, "both are pipes"
    process.kill()
    process.wait()
    process.stdout.close()
    with suppress(BrokenPipeError):  # what it never read is lost, as meant
        process.stdin.close()
