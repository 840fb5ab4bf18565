"""The one module that plugins import: everything a loader, exporter or panel needs, by name."""

from __future__ import annotations

from studio.contracts import (
    AdapterLoader,
    BaseModel,
    BlendChannel,
    BlendState,
    Cancelled,
    DeltaAdapter,
    Exporter,
    ExportRequest,
    FloatArray,
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
from studio.lora.names import gguf_module, rotated_heads, rows_to_gguf, rows_to_hugging_face

__all__ = [
    "Adapter",
    "AdapterLoader",
    "BaseModel",
    "BlendChannel",
    "BlendState",
    "Cancelled",
    "CancelledError",
    "DeltaAdapter",
    "EngineError",
    "ExportRequest",
    "Exporter",
    "FloatArray",
    "FormatError",
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
    "gguf_module",
    "hookimpl",
    "listing",
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
