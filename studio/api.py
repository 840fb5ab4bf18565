"""The one module that plugins and programs import: everything they need, by name."""

from __future__ import annotations

from studio.contracts import (
    NO_DROPOUT,
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
    Dropout,
    Example,
    Exported,
    Exporter,
    ExportRequest,
    FactorGradients,
    Finding,
    FloatArray,
    Gains,
    Gradients,
    LearningEngine,
    Loss,
    LowRankAdapter,
    LowRankFactors,
    MetadataValue,
    ModelLoader,
    Optimisation,
    Optimiser,
    OptimiserRun,
    PanelSpec,
    PredictingExporter,
    Prediction,
    Progress,
    ScaledDelta,
    TensorInfo,
    Trained,
    Trainer,
    TrainingProgress,
    TrainingRequest,
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
from studio.jobs.merge_options import MergeOptions
from studio.jobs.merging import merge, predict_merge
from studio.jobs.training import train_adapter
from studio.learning.adamw import AdamW, AdamWOptions
from studio.learning.memory import training_memory
from studio.learning.momentum import Momentum, MomentumOptions
from studio.learning.nf4_base import Nf4Base, in_nf4
from studio.learning.options import LoraOptions, QloraOptions
from studio.learning.qlora import QLoRATrainer
from studio.loading import load_adapter, load_base
from studio.lora import algebra
from studio.lora.adapter import Adapter, LoraFactors, listing
from studio.lora.cache import AdapterCache
from studio.lora.combining import combined_delta, concatenate, dense_delta, module_parts
from studio.lora.creation import create_adapter
from studio.lora.dora import AnyAdapter, DoraAdapter
from studio.lora.experts import all_experts, one_weight
from studio.lora.exported import (
    exported_modules,
    exported_parts,
    join_parts,
    pad_rank,
)
from studio.lora.fusing import NamedPair
from studio.lora.gains import PRESETS, curve, layer_count, over_layers, preset
from studio.lora.hugging_face import hugging_face_module, in_hugging_face_form
from studio.lora.inference import Inference
from studio.lora.injection import (
    adapter_of,
    inject_lora,
    restore_adapter,
    total_param_count,
    trainable_param_count,
)
from studio.lora.layers import (
    BaseLayers,
    DifferentiableLayer,
    FrozenLinear,
    Layer,
    LinearInfo,
    LinearLayer,
    Model,
)
from studio.lora.linear import LoraLinear
from studio.lora.names import gguf_module, own_gguf_name, rotated_heads, rows_to_gguf, rows_to_hugging_face
from studio.lora.nf4_linear import Nf4Linear, quantise_layers
from studio.lora.parameter import Parameter
from studio.lora.placing import Placement, RowOrder, fit, place
from studio.lora.predicting import predict_factors
from studio.lora.provenance import files_in_use, request_provenance, source_name
from studio.lora.rearranging import difference, negated, scaled, split_by_layer
from studio.lora.saving import save_adapter
from studio.lora.serving import check_modelfile, write_modelfile
from studio.lora.stack import LoraStack

__all__ = [
    "AdamW",
    "AdamWOptions",
    "Adapter",
    "AdapterCache",
    "AdapterLoader",
    "AnyAdapter",
    "BaseLayers",
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
    "DifferentiableLayer",
    "DoraAdapter",
    "Dropout",
    "EngineError",
    "Example",
    "ExportRequest",
    "Exported",
    "Exporter",
    "FactorGradients",
    "Finding",
    "FloatArray",
    "FormatError",
    "FrozenLinear",
    "Gains",
    "GgufFile",
    "GgufHeader",
    "GgufTensor",
    "Gradients",
    "Inference",
    "Layer",
    "LearningEngine",
    "LinearInfo",
    "LinearLayer",
    "LoraFactors",
    "LoraLinear",
    "LoraOptions",
    "LoraStack",
    "Loss",
    "LowRankAdapter",
    "LowRankFactors",
    "MergeOptions",
    "MetadataValue",
    "MismatchError",
    "Model",
    "ModelLoader",
    "Momentum",
    "MomentumOptions",
    "NO_DROPOUT",
    "NamedPair",
    "Nf4Base",
    "Nf4Linear",
    "Optimisation",
    "Optimiser",
    "OptimiserRun",
    "PRESETS",
    "PanelSpec",
    "Parameter",
    "PendingTensor",
    "Placement",
    "PluginError",
    "PredictingExporter",
    "Prediction",
    "Progress",
    "QLoRATrainer",
    "QloraOptions",
    "RowOrder",
    "SaveError",
    "ScaledDelta",
    "SessionError",
    "StudioError",
    "TensorInfo",
    "Trained",
    "Trainer",
    "TrainingProgress",
    "TrainingRequest",
    "UnsupportedError",
    "Work",
    "adapter_of",
    "algebra",
    "all_experts",
    "check_modelfile",
    "combined_delta",
    "concatenate",
    "create_adapter",
    "curve",
    "dense_delta",
    "difference",
    "exported_modules",
    "exported_parts",
    "files_in_use",
    "fit",
    "gguf_module",
    "hookimpl",
    "hugging_face_module",
    "in_hugging_face_form",
    "in_nf4",
    "inject_lora",
    "join_parts",
    "layer_count",
    "listing",
    "load_adapter",
    "load_base",
    "merge",
    "module_parts",
    "negated",
    "never",
    "one_weight",
    "open_gguf",
    "over_layers",
    "own_gguf_name",
    "pad_rank",
    "place",
    "predict_factors",
    "predict_merge",
    "preset",
    "quantise_layers",
    "read_header",
    "read_safetensors",
    "replacing_folder",
    "request_provenance",
    "require_space",
    "restore_adapter",
    "rotated_heads",
    "rows_to_gguf",
    "rows_to_hugging_face",
    "save_adapter",
    "scaled",
    "source_name",
    "split_by_layer",
    "tokenizer_files",
    "total_param_count",
    "train_adapter",
    "trainable_param_count",
    "training_memory",
    "weight_shape",
    "write_atomically",
    "write_gguf",
    "write_gguf_in_steps",
    "write_modelfile",
    "write_safetensors",
]
