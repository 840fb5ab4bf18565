"""Exports base and blend as one GGUF model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.api import MergeOptions, merge, predict_merge

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.api import ExportRequest, Prediction, Work


class MergedExporter:
    """Adds the blend's deltas to the base's weights and writes them in any type that llama.cpp has."""

    name = "merged base (GGUF)"
    suffix = ".gguf"
    Options = MergeOptions
    summary = "Base and blend in one GGUF file, for programs that take no adapters."

    def predict(self, request: ExportRequest, ranks: Mapping[str, int], options: MergeOptions) -> Prediction:
        """Tell how large the model will be."""
        return predict_merge(
            request.base, ranks, options.type, options.budget, has_imatrix=bool(options.imatrix)
        )

    def export(self, request: ExportRequest, path: Path, options: MergeOptions) -> Work:
        """Write the merged model atomically; the base's own files are never overwritten."""
        return merge(request, path, options)
