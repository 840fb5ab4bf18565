"""The one module that plugins import: everything a loader, exporter or panel needs, by name."""

from __future__ import annotations

from studio.contracts import (
    AdapterLoader,
    BaseModel,
    BlendChannel,
    BlendState,
    Cancelled,
    Combination,
    CombinedDelta,
    CombineMethod,
    DeltaAdapter,
    DeltaPart,
    Exporter,
    ExportRequest,
    FloatArray,
    Gains,
    LowRankAdapter,
    LowRankFactors,
    MetadataValue,
    ModelLoader,
    PanelSpec,
    Progress,
    TensorInfo,
    Work,
    never,
)
from studio.engine.low_rank import weight_shape
from studio.errors import (
    CancelledError,
    EngineError,
    FormatError,
    MismatchError,
    PluginError,
    SaveError,
    SessionError,
    StudioError,
    UnsupportedError,
)
from studio.formats.atomic import write_atomically
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_header import GgufHeader, GgufTensor, read_header
from studio.formats.gguf_shards import open_gguf
from studio.formats.gguf_writer import write_gguf, write_gguf_in_steps
from studio.formats.safetensors_file import read_safetensors
from studio.hookspecs import hookimpl
from studio.lora.adapter import Adapter, LoraFactors, listing
from studio.lora.combining import combined_delta, concatenate, dense_delta, module_parts
from studio.lora.names import gguf_module, rotated_heads, rows_to_gguf, rows_to_hugging_face

__all__ = [
    "Adapter",
    "AdapterLoader",
    "BaseModel",
    "BlendChannel",
    "BlendState",
    "Cancelled",
    "CancelledError",
    "Combination",
    "CombineMethod",
    "CombinedDelta",
    "DeltaAdapter",
    "DeltaPart",
    "EngineError",
    "ExportRequest",
    "Exporter",
    "FloatArray",
    "FormatError",
    "Gains",
    "GgufFile",
    "GgufHeader",
    "GgufTensor",
    "LoraFactors",
    "LowRankAdapter",
    "LowRankFactors",
    "MetadataValue",
    "MismatchError",
    "ModelLoader",
    "PanelSpec",
    "PluginError",
    "Progress",
    "SaveError",
    "SessionError",
    "StudioError",
    "TensorInfo",
    "UnsupportedError",
    "Work",
    "combined_delta",
    "concatenate",
    "dense_delta",
    "gguf_module",
    "hookimpl",
    "listing",
    "module_parts",
    "never",
    "open_gguf",
    "read_header",
    "read_safetensors",
    "rotated_heads",
    "rows_to_gguf",
    "rows_to_hugging_face",
    "weight_shape",
    "write_atomically",
    "write_gguf",
    "write_gguf_in_steps",
]
