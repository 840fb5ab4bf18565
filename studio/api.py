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
    Exported,
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
from studio.engine.tokenizer.hugging_face import tokenizer_files
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
from studio.formats.atomic_folder import replacing_folder
from studio.formats.disk_space import require_space
from studio.formats.gguf_file import GgufFile
from studio.formats.gguf_header import GgufHeader, GgufTensor, read_header
from studio.formats.gguf_shards import open_gguf
from studio.formats.gguf_writer import write_gguf, write_gguf_in_steps
from studio.formats.safetensors_file import read_safetensors
from studio.formats.safetensors_writer import PendingTensor, write_safetensors
from studio.hookspecs import hookimpl
from studio.lora.adapter import Adapter, LoraFactors, listing
from studio.lora.combining import combined_delta, concatenate, dense_delta, module_parts
from studio.lora.exported import (
    exported_modules,
    exported_parts,
    join_parts,
    pad_rank,
    request_provenance,
)
from studio.lora.hugging_face import hugging_face_module, in_hugging_face_form
from studio.lora.names import gguf_module, rotated_heads, rows_to_gguf, rows_to_hugging_face
from studio.lora.serving import check_modelfile, write_modelfile

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
    "Exported",
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
    "PendingTensor",
    "PluginError",
    "Progress",
    "SaveError",
    "SessionError",
    "StudioError",
    "TensorInfo",
    "UnsupportedError",
    "Work",
    "check_modelfile",
    "combined_delta",
    "concatenate",
    "dense_delta",
    "exported_modules",
    "exported_parts",
    "gguf_module",
    "hookimpl",
    "hugging_face_module",
    "in_hugging_face_form",
    "join_parts",
    "listing",
    "module_parts",
    "never",
    "open_gguf",
    "pad_rank",
    "read_header",
    "read_safetensors",
    "replacing_folder",
    "request_provenance",
    "require_space",
    "rotated_heads",
    "rows_to_gguf",
    "rows_to_hugging_face",
    "tokenizer_files",
    "weight_shape",
    "write_atomically",
    "write_gguf",
    "write_gguf_in_steps",
    "write_modelfile",
    "write_safetensors",
]
