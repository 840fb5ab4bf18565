"""Exports base and blend as one GGUF model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.api import MergeOptions, merge

if TYPE_CHECKING:
    from pathlib import Path

    from studio.api import ExportRequest, Work


class MergedExporter:
    """Adds the blend's deltas to the base's weights and writes them in any type that llama.cpp has."""

    name = "merged base (GGUF)"
    suffix = ".gguf"
    Options = MergeOptions

    def export(self, request: ExportRequest, path: Path, options: MergeOptions) -> Work:
        """Write the merged model atomically; the base's own files are never overwritten."""
        return merge(request, path, options)
