"""Merges the demo to F16 and prints how long the work took, without fsync, and the peak of memory."""

from __future__ import annotations

import json
import os
import resource
import tempfile
import time
from pathlib import Path

from benchmarks.demo import demo
from studio.cli.output import finish
from studio.contracts import BlendChannel, BlendState, ExportRequest
from studio.jobs.merge_options import MergeOptions
from studio.jobs.merging import merge
from studio.registry import load_plugins

waited = 0.0
wait = os.fsync


def timed_fsync(handle: int) -> None:
    """Wait for the disk, and note how long."""
    global waited
    started = time.perf_counter()
    wait(handle)
    waited += time.perf_counter() - started


os.fsync = timed_fsync  # type: ignore[assignment]
with demo(load_plugins()) as opened, tempfile.TemporaryDirectory() as folder:
    adapters = {adapter.name: adapter for adapter in opened.three}
    heard = tuple(BlendChannel(name, adapter.version, 0.5) for name, adapter in adapters.items())
    request = ExportRequest(opened.base, adapters, BlendState(heard))
    started = time.perf_counter()
    finish(merge(request, Path(folder) / "merged.gguf", MergeOptions(type="F16")))
    took = time.perf_counter() - started - waited
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
print(json.dumps({"milliseconds": 1e3 * took, "megabytes": peak}))
