"""The protocols and small values that the rooms of the studio share."""

from studio.contracts.adapters import (
    CombinedDelta,
    DeltaAdapter,
    DeltaPart,
    LowRankAdapter,
    LowRankFactors,
)
from studio.contracts.engine import (
    Engine,
    Evaluation,
    Positions,
    Sampling,
)
from studio.contracts.mixer import (
    BASE_ALONE,
    EVEN,
    BlendChannel,
    BlendState,
    ChannelState,
    Gains,
    MixerState,
)
from studio.contracts.models import (
    BaseModel,
    FloatArray,
    MetadataValue,
    RawTensors,
    TensorInfo,
)
from studio.contracts.plugins import (
    AdapterLoader,
    Combination,
    CombineMethod,
    Exported,
    Exporter,
    ExportRequest,
    Extension,
    ModelLoader,
    PanelSpec,
    Plugins,
    PluginStatus,
)
from studio.contracts.work import (
    Cancelled,
    Progress,
    Work,
    never,
)

__all__ = [
    "AdapterLoader",
    "BASE_ALONE",
    "BaseModel",
    "BlendChannel",
    "BlendState",
    "Cancelled",
    "ChannelState",
    "Combination",
    "CombineMethod",
    "CombinedDelta",
    "DeltaAdapter",
    "DeltaPart",
    "EVEN",
    "Engine",
    "Evaluation",
    "ExportRequest",
    "Exported",
    "Exporter",
    "Extension",
    "FloatArray",
    "Gains",
    "LowRankAdapter",
    "LowRankFactors",
    "MetadataValue",
    "MixerState",
    "ModelLoader",
    "PanelSpec",
    "PluginStatus",
    "Plugins",
    "Positions",
    "Progress",
    "RawTensors",
    "Sampling",
    "TensorInfo",
    "Work",
    "never",
]
