"""Brings an open base to the compiled kernels in the background, while NumPy gives the first answers.

The kernels take a second to import, and their first use on a machine a few more to compile.
"""

from __future__ import annotations

import logging
import os
import threading
from typing import TYPE_CHECKING

from studio.contracts import RawTensors
from studio.engine.compiled_numpy import SWITCH
from studio.engine.linear import Linear
from studio.engine.model import EMBEDDING
from studio.engine.token_plan import PlannedModel, TokenPlan
from studio.engine.weights import StoredLinear

if TYPE_CHECKING:
    from studio.contracts import BaseModel, FloatArray
    from studio.engine.backend import Backend
    from studio.engine.kernels.tiles import Tiles
    from studio.engine.kernels.token_program import TiledWeights
    from studio.engine.kernels.walkers import Walkers
    from studio.engine.model import LinearGroup, Model
    from studio.engine.weights import Weights

LANES = 16

log = logging.getLogger(__name__)


class KernelLoader:
    """Loads the kernels' side of one open base, once.

    Parameters
    ----------
    base
        Where the weights are read from, which is done once more where they lie dense in memory.

    Attributes
    ----------
    plan
        How the model decodes one token; None where the kernels cannot do it here.
    ready
        Tiled weights and the threads that walk through programs, once they are there.
    """

    def __init__(self, base: BaseModel, model: Model, weights: Weights, backend: Backend) -> None:
        self._base = base
        self._weights = weights
        self.plan = _plan(model, weights, backend)
        self.ready: tuple[TiledWeights, Walkers] | None = None
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._stop = threading.Event()

    def begin(self) -> None:
        """Begin to load in the background, once."""
        with self._lock:
            if self.plan is not None and self._thread is None and not self._stop.is_set():
                self._thread = threading.Thread(target=self._load, name="kernel loading")
                self._thread.start()

    def wait(self) -> bool:
        """Load now, and say whether the kernels are ready."""
        self.begin()
        if self._thread is not None:
            self._thread.join()
        return self.ready is not None

    @property
    def nbytes(self) -> int:
        """What the kernels hold of the weights in memory, beside dense ones."""
        ready = self.ready
        if ready is None or self._weights.kind == "quantised":
            return 0
        return sum(tiles.nbytes for tiles in ready[0].tiles.values())

    def close(self) -> None:
        """Stop loading, and wait until it has stopped."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        self.ready = None

    def _load(self) -> None:
        """Import and compile the kernels, then repack every weight."""
        try:
            from studio.engine.kernels.loading import shared_walkers
            from studio.engine.kernels.token_program import TiledWeights

            walkers = shared_walkers()
            tiles: dict[str, Tiles] = {}
            biases: dict[str, FloatArray] = {}
            for group, linear in self._weights.linears.items():
                if self._stop.is_set():
                    return
                tiles |= self._tiled(group, linear)
                biases |= _biases(group, linear)
            self.ready = (TiledWeights(tiles, biases, self._weights.vectors), walkers)
        except Exception as error:  # a compiler may raise anything; the stream goes on without it
            log.warning("decoding stays with NumPy: %s", error)

    def _tiled(self, group: LinearGroup, linear: Linear | StoredLinear) -> dict[str, Tiles]:
        """Interleave the weights of a group."""
        from studio.engine.kernels.panels import panel
        from studio.engine.kernels.tiles import can_tile, tile_dense, tile_raw

        if isinstance(linear, StoredLinear):
            return {name: weight.tile(panel) for name, weight in zip(group, linear.weights, strict=True)}
        tiles, start = {}, 0
        for name, out in zip(group, linear.outputs, strict=True):
            source = name if name in self._base.tensors else EMBEDDING
            info = self._base.tensors[source]
            if isinstance(self._base, RawTensors) and can_tile(info.type_name, info.shape):
                tiles[name] = tile_raw(self._base.raw(source), info.type_name, (out, linear.inputs))
            else:
                tiles[name] = tile_dense(linear.weight[start : start + out])
            start += out
        return tiles


def _plan(model: Model, weights: Weights, backend: Backend) -> TokenPlan | None:
    """Return the plan of a model that the kernels can decode here; None where they cannot."""
    if os.environ.get(SWITCH) == "off" or backend.name != "NumPy" or not isinstance(model, PlannedModel):
        return None
    plan = model.token_plan
    if plan is None:
        return None
    width = weights.linears[plan.blocks[0].query_key_value].inputs
    if plan.head_size % LANES or width % LANES or not all(_tileable(one) for one in weights.linears.values()):
        return None
    return plan


def _tileable(linear: Linear | StoredLinear) -> bool:
    """Say whether the kernels can multiply by a group: by anything that is dense, and by most that is not."""
    return isinstance(linear, Linear) or all(weight.can_tile for weight in linear.weights)


def _biases(group: LinearGroup, linear: Linear | StoredLinear) -> dict[str, FloatArray]:
    """Return the biases ``[out]`` of a group by the names of their weights."""
    if isinstance(linear, StoredLinear):
        pairs = zip(group, linear.biases, strict=True)
        return {name: bias[:, 0] for name, bias in pairs if bias is not None}
    if linear.bias is None:
        return {}
    biases, start = {}, 0
    for name, out in zip(group, linear.outputs, strict=True):
        biases[name] = linear.bias[start : start + out, 0]
        start += out
    return biases
