"""How large exported factors will be, from shapes and ranks alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from studio.contracts import Prediction
from studio.engine.model import EMBEDDING
from studio.formats.gguf_writer import slot_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from studio.contracts import ExportRequest
    from studio.formats.gguf_writer import FloatType

HEADER_BYTES = 120
"""About what a tensor takes beside its numbers: its name, its place and the gap before the next one."""


def predict_factors(request: ExportRequest, ranks: Mapping[str, int], type_name: FloatType) -> Prediction:
    """Tell of an adapter in which each module has its rank.

    Parameters
    ----------
    request
        What is exported: its base has the shapes.
    ranks
        The rank by module; one that fills all up gives the same to all.
    type_name
        How the factors are stored.
    """
    tensors = request.base.tensors
    nbytes = 2 * HEADER_BYTES * len(ranks)
    for module, rank in ranks.items():
        *experts, rows, columns = tensors[module if module in tensors else EMBEDDING].shape
        nbytes += slot_of((*experts, rank, columns), type_name).nbytes
        nbytes += slot_of((*experts, rows, rank), type_name).nbytes
    return Prediction(nbytes, type_name)
