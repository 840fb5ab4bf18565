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
    Finding,
    FloatArray,
    Gains,
    LowRankAdapter,
    LowRankFactors,
    MetadataValue,
    ModelLoader,
    PanelSpec,
    Progress,
    ScaledDelta,
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
from studio.lora.cache import AdapterCache
from studio.lora.combining import combined_delta, concatenate, dense_delta, module_parts
from studio.lora.dora import AnyAdapter, DoraAdapter
from studio.lora.experts import all_experts, one_weight
from studio.lora.fusing import NamedPair
from studio.lora.names import gguf_module, own_gguf_name, rotated_heads, rows_to_gguf, rows_to_hugging_face
from studio.lora.placing import Placement, RowOrder, fit, place

__all__ = [
    "Adapter",
    "AdapterCache",
    "AdapterLoader",
    "AnyAdapter",
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
    "DoraAdapter",
    "EngineError",
    "ExportRequest",
    "Exporter",
    "Finding",
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
    "NamedPair",
    "PanelSpec",
    "Placement",
    "PluginError",
    "Progress",
    "RowOrder",
    "SaveError",
    "ScaledDelta",
    "SessionError",
    "StudioError",
    "TensorInfo",
    "UnsupportedError",
    "Work",
    "all_experts",
    "combined_delta",
    "concatenate",
    "dense_delta",
    "fit",
    "gguf_module",
    "hookimpl",
    "listing",
    "module_parts",
    "never",
    "one_weight",
    "open_gguf",
    "own_gguf_name",
    "place",
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
