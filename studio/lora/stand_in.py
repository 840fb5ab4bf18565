"""A base that is known by an adapter alone: enough to rename and rewrite the adapter, and no more."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from studio.contracts import TensorInfo
from studio.errors import MismatchError, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from studio.contracts import FloatArray, MetadataValue
    from studio.lora.adapter import Adapter

OPEN_BASE = "Name its base with --base"


class StandInBase:
    """Satisfies `BaseModel` with the names and shapes of the weights that an adapter acts on.

    Raises
    ------
    MismatchError
        The adapter does not say its architecture, or its rows may stand in another order.
    """

    def __init__(self, adapter: Adapter) -> None:
        if adapter.architecture is None or adapter.rows_as_stored:
            raise MismatchError(
                "the names and the row order of its base are needed to convert it",
                path=adapter.source,
                remedy=OPEN_BASE,
            )
        self.architecture = adapter.architecture
        self.name = f"the base of {adapter.name}"
        self.path: Path = adapter.source or _nowhere()
        self.files: tuple[Path, ...] = ()
        self.file_type = ""
        self.file_size = 0
        self.metadata: Mapping[str, MetadataValue] = MappingProxyType(
            {"general.architecture": self.architecture}
        )
        self.tensors: Mapping[str, TensorInfo] = MappingProxyType(
            {module: TensorInfo(module, factors.shape, "", 0) for module, factors in adapter.factors.items()}
        )

    def dense(self, name: str) -> FloatArray:
        """Refuse: there are no weights here."""
        raise UnsupportedError("the weights of the base are needed", where=name, remedy=OPEN_BASE)

    def close(self) -> None:
        """Do nothing."""


def _nowhere() -> Path:
    from pathlib import Path

    return Path()
